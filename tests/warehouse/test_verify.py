"""`python -m warehouse verify` says whether the marts are what one run over everything makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion.writer import Writer
from tests.feeds import poll, polled_config
from warehouse.__main__ import main
from warehouse.connection import Role, connect
from warehouse.transform import TransformError, transform
from warehouse.verify import verify

pytestmark = pytest.mark.usefixtures("warehouse")

START = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=3)


def write_polls(*words: str) -> None:
    """One EVSE, polled every ten minutes."""
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, polled_config("wattle", liveness_seconds=900))
        for number, word in enumerate(words):
            at = START + timedelta(minutes=10 * number)
            writer.write_poll(poll({"A": word}), at, at + timedelta(seconds=1))


def as_owner(statement: str) -> list[Any]:
    with connect(Role.OWNER) as connection:
        cursor = connection.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def leftovers() -> list[Any]:
    return as_owner("select relname from pg_class where relnamespace::regnamespace::text like 'verify%'")


def test_a_broken_row_is_found_and_left_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    write_polls("AVAILABLE", "CHARGING")
    transform()
    write_polls("AVAILABLE", "CHARGING", "OUTOFORDER", "AVAILABLE")
    transform()
    compared = {table.name: table for table in verify()}
    assert all(table.is_equal for table in compared.values())
    built_upon = {
        "intermediate.int_evse__status_span", "intermediate.int_evse__status_monthly", "marts.fct_evse_status_daily",
        "marts.dim_evse", "marts.dim_evse_funding", "marts.fct_feed_health_daily",
    }  # fmt: skip
    assert built_upon <= compared.keys()
    assert not any("touched" in name for name in compared)
    assert all(compared[name].row_count > 0 for name in built_upon - {"marts.dim_evse_funding"})
    assert leftovers() == []

    as_owner("update marts.fct_evse_status_daily set seconds = seconds + 1 where status = 'out_of_order'")
    as_owner("delete from intermediate.int_evse__status_monthly where status = 'available'")
    broken = as_owner("select * from marts.fct_evse_status_daily order by 1, 2, 3")
    capfd.readouterr()
    assert main(["verify"]) == 1
    lines = capfd.readouterr().out.splitlines()
    said = [line for line in lines if line.startswith(("marts.", "intermediate.")) and "equal" not in line]
    count = len(broken)
    assert said[-1] == (
        f"marts.fct_evse_status_daily: 1 of {count} rows are not in the rebuilt table, 1 are only there"
    )
    assert said[-2].startswith("intermediate.int_evse__status_monthly: 0 of ")
    assert len(said) == 2
    examples = [line for line in lines if '"seconds": 60' in line and "out_of_order" in line]
    assert [line.split(": ")[0].strip() for line in examples] == ["only standing", "only rebuilt"]
    assert as_owner("select * from marts.fct_evse_status_daily order by 1, 2, 3") == broken
    assert leftovers() == []


def test_there_is_nothing_to_compare_before_a_run_and_after_one_that_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify"]) == 1
    assert "make transform" in capsys.readouterr().err
    write_polls("AVAILABLE")
    transform()
    with monkeypatch.context() as other:
        other.setattr("warehouse.verify.code_sha256", lambda: "another code")
        with pytest.raises(TransformError, match="of this code"):
            verify()
    as_owner("update state.transform_run set finished_at = null")
    with pytest.raises(TransformError, match="finished run"):
        verify()
