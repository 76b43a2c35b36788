"""Files as they arrive: each once, in order, whole or not at all; a bad one is set aside."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest

from ingestion.config import CpoConfig
from ingestion.file_drop import FileTotals, collect_files
from ingestion.files import records
from tests.feeds import at, changes_of, count
from warehouse.connection import Role, connect

NOW = at(600)
LONG_AGO = at(500)
MAPPING = {
    "site": {"site_id": "site", "time_zone": "zone"},
    "evse": {"evse_id": "evse", "status": "status"},
    "connector": {"connector_id": "plug", "power": {"path": "kw", "unit": "kW"}},
}
CHANGES = {**MAPPING, "evse": {**MAPPING["evse"], "updated_at": "at"}}


class StillClock:
    """Waits by jumping; stands still otherwise."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def wait_until(self, moment: datetime) -> None:
        self.time = moment


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture(autouse=True)
def _own_var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAR_DIR", str(tmp_path / "var"))


def drop_config(cpo_id: str, folder: Path, **feed: Any) -> CpoConfig:
    folder.mkdir(exist_ok=True)
    settings = {
        "kind": "file_drop", "url": folder.as_uri(), "format": "csv", "mapping": MAPPING, "is_complete": True,
        "observed_at": "name", "name_time": "s_%Y%m%dT%H%M.csv", "poll_seconds": 60, "liveness_seconds": 300,
        "status_profile": "ocpi_2_2_1", **feed,
    }  # fmt: skip
    return CpoConfig.model_validate({"cpo_id": cpo_id, "name": cpo_id.title(), "feed": settings})


def changes_config(cpo_id: str, folder: Path, **feed: Any) -> CpoConfig:
    return drop_config(
        cpo_id, folder, **{"is_complete": False, "observed_at": "record", "name_time": None, "mapping": CHANGES, **feed}
    )


def rows(*tuples: tuple[str, ...]) -> str:
    """CSV of (evse, status[, at])."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["site", "zone", "evse", "plug", "kw", "status", "at"])
    for evse, status, *moment in tuples:
        writer.writerow(["S1", "Australia/Sydney", evse, "1", "22", status, *(moment or [""])])
    return text.getvalue()


def put(folder: Path, name: str, content: str | bytes, modified: datetime = LONG_AGO) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (modified.timestamp(), modified.timestamp()))
    return path


def look(config: CpoConfig, seconds: float = 0, clock: StillClock | None = None) -> tuple[FileTotals, list[str]]:
    said: list[str] = []
    totals = collect_files(config, seconds=seconds, report=said.append, clock=clock or StillClock())
    return totals, said


def receipts(connection: psycopg.Connection, cpo_id: str) -> list[tuple[str, str]]:
    return connection.execute(
        "select path, outcome from raw.file_receipt inner join raw.feed using (feed_key) where cpo_id = %s order by 1, 2",
        (cpo_id,),
    ).fetchall()


def contacts(connection: psycopg.Connection, cpo_id: str) -> list[tuple[datetime, str]]:
    return connection.execute(
        "select contact_from, outcome from raw.feed_contact inner join raw.feed using (feed_key) where cpo_id = %s order by 1",
        (cpo_id,),
    ).fetchall()


def quarantined(connection: psycopg.Connection, cpo_id: str) -> list[tuple[str, str, str | None, str]]:
    return connection.execute(
        "select source, record_ref, field, reason from raw.quarantine inner join raw.feed using (feed_key)"
        " where cpo_id = %s order by quarantine_key",
        (cpo_id,),
    ).fetchall()


def test_complete_files_are_polls_in_the_order_of_their_own_times(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    config = drop_config("complete", folder)
    # Written to the folder the other way round.
    put(folder, "s_20261001T0002.csv", rows(("a", "CHARGING")), at(400))
    put(folder, "s_20261001T0001.csv", rows(("a", "AVAILABLE"), ("b", "AVAILABLE")), at(450))
    put(folder, "s_20261001T0003.csv", rows(("a", "CHARGING"), ("b", "AVAILABLE")), at(410))
    totals, said = look(config)
    assert [line[:19] for line in said] == [f"s_20261001T000{minute}.csv" for minute in (1, 2, 3)]
    assert changes_of(connection, "complete") == [
        ("a", at(1), "AVAILABLE"), ("b", at(1), "AVAILABLE"),
        ("a", at(2), "CHARGING"), ("b", at(2), None),
        ("b", at(3), "AVAILABLE"),
    ]  # fmt: skip
    assert contacts(connection, "complete") == [(at(1), "complete"), (at(2), "complete"), (at(3), "complete")]
    assert (totals.looks, totals.taken, totals.written.assets) == (1, 3, 2)
    # One that is late changes the past and nothing else.
    put(folder, "sub/s_20261001T0000.csv", rows(("a", "BLOCKED"), ("b", "AVAILABLE")))
    look(config)
    assert changes_of(connection, "complete")[:2] == [("a", at(0), "BLOCKED"), ("b", at(0), "AVAILABLE")]
    assert changes_of(connection, "complete")[-1] == ("b", at(3), "AVAILABLE")


def test_a_complete_file_that_is_far_too_short_is_refused(connection: psycopg.Connection, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    config = drop_config("short", folder)
    put(folder, "s_20261001T0001.csv", rows(*((evse, "AVAILABLE") for evse in "abcde")))
    put(folder, "s_20261001T0002.csv", rows(("a", "AVAILABLE"), ("b", "CHARGING")))
    totals, said = look(config)
    assert (totals.taken, totals.refused) == (1, 1)
    assert "a list of 2 EVSEs where 5 were present is not believed" in said[1]
    assert len(changes_of(connection, "short")) == 5
    assert contacts(connection, "short") == [(at(1), "complete")]


def test_a_complete_file_that_says_the_same_at_another_time_is_one_more_contact(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    config = drop_config("same", folder)
    for minute in range(3):
        put(folder, f"s_20261001T000{minute}.csv", rows(("a", "AVAILABLE")))
    put(folder, "copy/s_20261001T0002.csv", rows(("a", "AVAILABLE")))
    totals, _ = look(config)
    assert contacts(connection, "same") == [(at(minute), "complete") for minute in range(3)]
    assert (totals.taken, totals.repeated, totals.written.changes) == (3, 1, 1)


def test_each_file_is_taken_once_by_content_and_again_when_its_content_is_new(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    config = changes_config("once", folder)
    first = rows(("a", "AVAILABLE", "2026-10-01T00:01:00Z"))
    put(folder, "x.csv", first)
    assert look(config)[0].taken == 1
    assert look(config) == (FileTotals(looks=1), [])
    put(folder, "other.csv", first)
    put(folder, "x.csv", first, at(510))
    totals, said = look(config)
    assert (totals.taken, totals.repeated) == (0, 2)
    assert said[0].startswith("other.csv: repeated")
    put(folder, "x.csv", rows(("a", "CHARGING", "2026-10-01T00:02:00Z")), at(520))
    assert look(config)[0].taken == 1
    assert changes_of(connection, "once") == [("a", at(1), "AVAILABLE"), ("a", at(2), "CHARGING")]
    assert receipts(connection, "once") == [
        ("other.csv", "repeated"), ("x.csv", "repeated"), ("x.csv", "taken"), ("x.csv", "taken"),
    ]  # fmt: skip


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, bytes])
@pytest.mark.parametrize("format", ["csv", "parquet", "json", "lines"])
def test_every_format_and_packing_is_read(
    connection: psycopg.Connection, tmp_path: Path, format: str, pack: Any
) -> None:
    cpo_id = f"f_{format}_{pack.__module__.strip('_')}"
    objects = [
        {"site": "S1", "zone": "Australia/Sydney", "evse": "a", "plug": "1", "kw": "22", "status": word, "at": moment}
        for word, moment in [("AVAILABLE", "2026-10-01T00:01:00Z"), ("CHARGING", "2026-10-01T00:02:00Z")]
    ]
    content = {
        "csv": rows(*((one["evse"], one["status"], one["at"]) for one in objects)).encode("utf-8-sig"),
        "json": json.dumps(objects, indent=1).encode(),
        "lines": "\n".join(json.dumps(one) for one in objects).encode(),
        "parquet": b"",
    }[format]
    if format == "parquet":
        sink = io.BytesIO()
        typed = [{**one, "at": datetime.fromisoformat(one["at"]), "kw": 22.0} for one in objects]
        pyarrow.parquet.write_table(pa.Table.from_pylist(typed), sink)
        content = sink.getvalue()
    config = changes_config(cpo_id, tmp_path / "drop", format="json" if format == "lines" else format)
    put(tmp_path / "drop", "x", pack(content))
    totals, said = look(config)
    assert totals.taken == 1, said
    assert changes_of(connection, cpo_id) == [("a", at(1), "AVAILABLE"), ("a", at(2), "CHARGING")]
    assert quarantined(connection, cpo_id) == []
    assert connection.execute(
        "select power_kw from raw.asset_version inner join raw.feed using (feed_key) where cpo_id = %s", (cpo_id,)
    ).fetchall() == [(22,)]


def test_single_bad_records_are_quarantined_with_their_number(connection: psycopg.Connection, tmp_path: Path) -> None:
    config = changes_config("bad_records", tmp_path / "drop")
    lines = rows(
        ("a", "AVAILABLE", "2026-10-01T00:01:00Z"),
        ("", "AVAILABLE", "2026-10-01T00:01:00Z"),
        ("b", "", "2026-10-01T00:01:00Z"),
        ("c", "CHARGING", "yesterday"),
        ("d", "CHARGING", ""),
    )
    put(
        tmp_path / "drop",
        "x.csv",
        lines + "too,short\r\n\r\n" + rows(("e", "BLOCKED", "2026-10-01T00:03:00Z")).split("\r\n")[1],
    )
    totals, _ = look(config)
    assert changes_of(connection, "bad_records") == [("a", at(1), "AVAILABLE"), ("e", at(3), "BLOCKED")]
    assert [(source, ref.split("/")[0], field) for source, ref, field, _ in quarantined(connection, "bad_records")] == [
        ("x.csv", "record 2: S1", "evse.evse_id (evse)"),
        ("x.csv", "record 3: S1", "evse.status (status)"),
        ("x.csv", "record 4: S1", "evse.updated_at (at)"),
        ("x.csv", "record 4: s1", "updated_at"),
        ("x.csv", "record 5: s1", "updated_at"),
        ("x.csv", "record 6: record 6", None),
    ]
    assert (totals.taken, totals.refused) == (1, 0)


def test_a_bad_record_of_complete_files_is_quarantined_once_and_says_where_it_was_first(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    config = drop_config("bad_list", tmp_path / "drop")
    for minute in range(3):
        put(tmp_path / "drop", f"s_20261001T000{minute}.csv", rows(("a", f"W{minute}"), ("b", "")))
    look(config)
    assert quarantined(connection, "bad_list") == [
        (
            "csv file", "S1/b", "evse.status (status)",
            "described without a status: gives nothing (s_20261001T0000.csv, record 2)",
        )
    ]  # fmt: skip


BAD = {
    "no time in its name": ("x.csv", rows(("a", "AVAILABLE")), "its name does not read as s_%Y%m%dT%H%M.csv"),
    "a time to come": ("s_20271001T0000.csv", rows(("a", "AVAILABLE")), "its time 2027-10-01T00:00:00+00:00 cannot be"),
    "cut in half": ("s_20261001T0001.csv.gz", gzip.compress(rows(("a", "AVAILABLE")).encode())[:-9], "cannot be read as csv"),
    "nothing in it": ("s_20261001T0001.csv", "", "is empty"),
    "a page of HTML": ("s_20261001T0001.csv", "<html>\n<body>x</body>", "lists no EVSE that can be read"),
    "no good record": ("s_20261001T0001.csv", rows(("", "AVAILABLE")), "lists no EVSE that can be read"),
    "not UTF-8": ("s_20261001T0001.csv", b"site,evse\n\xff\xfe,x", "cannot be read as csv"),
    "a column twice": ("s_20261001T0001.csv", "site,site\nx,y", "a column stands twice"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_set_aside_with_a_report_and_keeps_no_other_waiting(
    connection: psycopg.Connection, tmp_path: Path, kind: str
) -> None:
    name, content, reason = BAD[kind]
    folder = tmp_path / "drop"
    cpo_id = "bad_" + "".join(letter for letter in kind.lower() if letter.isalpha())
    config = drop_config(cpo_id, folder)
    bad = put(folder, name, content).read_bytes()
    put(folder, "s_20261001T0005.csv", rows(("b", "AVAILABLE")))
    totals, said = look(config)
    assert (totals.taken, totals.refused) == (1, 1)
    assert changes_of(connection, cpo_id) == [("b", at(5), "AVAILABLE")]
    assert receipts(connection, cpo_id) == sorted([(name, "refused"), ("s_20261001T0005.csv", "taken")])
    (aside,) = folder.glob(f"rejected/*/{name}")
    assert aside.read_bytes() == bad
    assert not (folder / name).exists()
    report = json.loads(aside.with_name(f"{name}.report.json").read_text(encoding="utf-8"))
    assert (report["file"], report["byte_count"], report["refused_at"]) == (name, len(bad), NOW.isoformat())
    assert reason in report["why"]
    assert any(line.startswith(f"{name}: refused: ") and str(aside) in line for line in said)
    # What is set aside is not looked at again.
    assert look(config)[0] == FileTotals(looks=1)


def test_the_report_shows_the_first_bad_records(connection: psycopg.Connection, tmp_path: Path) -> None:
    config = changes_config("reported", tmp_path / "drop")
    put(tmp_path / "drop", "x.csv", rows(*(("", "AVAILABLE", "2026-10-01T00:00:00Z") for _ in range(100))))
    assert look(config)[0].refused == 1
    (report,) = (tmp_path / "drop").glob("rejected/*/x.csv.report.json")
    shown = json.loads(report.read_text(encoding="utf-8"))["first_bad_records"]
    assert [one["record_ref"].split(":")[0] for one in shown] == [f"record {number}" for number in range(1, 21)]
    # Nothing of a refused file is stored.
    assert count(connection, "quarantine", "reported") == 0


def test_a_file_that_may_still_be_written_waits(connection: psycopg.Connection, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    config = changes_config("waiting", folder, poll_seconds=10)
    good = rows(("a", "AVAILABLE", "2026-10-01T00:01:00Z"))
    put(folder, "fresh.csv", good, NOW - timedelta(seconds=3))
    for name in ("x.csv.part", ".x.csv", ".hidden/x.csv"):
        put(folder, name, good)
    clock = StillClock()
    totals, _ = look(config, 0, clock)
    assert (totals.taken, totals.waiting) == (0, 1)
    clock.time += timedelta(seconds=7)
    totals, _ = look(config, 0, clock)
    assert (totals.taken, totals.waiting) == (1, 0)
    # By a clock ahead of ours it would be fresh for hours: taken once it has not changed before our eyes.
    put(folder, "ahead.csv", rows(("a", "CHARGING", "2026-10-01T00:02:00Z")), NOW + timedelta(hours=3))
    totals, _ = look(config, 25, clock)
    assert (totals.looks, totals.taken, totals.waiting) == (4, 1, 0)
    assert [path for path, _ in receipts(connection, "waiting")] == ["ahead.csv", "fresh.csv"]


def test_statuses_alone_are_put_to_the_evses_described_elsewhere(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    described = drop_config("apart", tmp_path / "drop")
    put(tmp_path / "drop", "s_20261001T0000.csv", rows(("a", "AVAILABLE")))
    look(described)
    config = changes_config(
        "apart", tmp_path / "words", mapping=None, delimiter=";",
        status_mapping={"evse_id": "id", "status": '"the status"', "updated_at": "at"},
    )  # fmt: skip
    put(
        tmp_path / "words",
        "x.csv",
        "id;the status;at\nA;CHARGING;2026-10-01T00:01:00Z\nzz;CHARGING;2026-10-01T00:01:00Z\n",
    )
    look(config)
    assert changes_of(connection, "apart") == [("a", at(0), "AVAILABLE"), ("a", at(1), "CHARGING")]
    assert [row[1:3] for row in quarantined(connection, "apart")] == [("record 2: zz", "evse_id")]


def test_content_and_receipt_are_stored_together_or_not_at_all(
    connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingestion.writer import Writer

    config = changes_config("together", tmp_path / "drop")
    put(tmp_path / "drop", "x.csv", rows(("a", "AVAILABLE", "2026-10-01T00:01:00Z")))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "keep_file_receipt", fail)
        with pytest.raises(ZeroDivisionError):
            look(config)
    assert changes_of(connection, "together") == []
    assert look(config)[0].taken == 1
    assert changes_of(connection, "together") == [("a", at(1), "AVAILABLE")]


def test_a_folder_that_is_not_there_is_a_failed_look(connection: psycopg.Connection, tmp_path: Path) -> None:
    config = drop_config("gone", tmp_path / "drop")
    (tmp_path / "drop").rmdir()
    totals, said = look(config)
    assert totals.failure() == "none of 1 looks succeeded; see above"
    assert contacts(connection, "gone") == [(NOW, "failed")]
    assert "no such folder" in said[0]
    assert not (tmp_path / "drop").exists()


def test_two_windows_that_overlap_take_each_file_once(connection: psycopg.Connection, tmp_path: Path) -> None:
    config = changes_config("overlap", tmp_path / "drop")
    for number in range(30):
        put(tmp_path / "drop", f"{number:02}.csv", rows((f"e{number}", "AVAILABLE", "2026-10-01T00:01:00Z")))
    found: list[FileTotals] = []
    threads = [threading.Thread(target=lambda: found.append(look(config)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert sum(one.taken for one in found) == 30
    assert len(receipts(connection, "overlap")) == 30


def test_a_large_file_is_read_in_pieces(
    connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changes_config("large", tmp_path / "drop")
    start = datetime(2026, 10, 1, tzinfo=UTC)
    words = ("AVAILABLE", "CHARGING")
    lines = [
        (f"e{number % 50}", words[number // 50 % 2], (start + timedelta(seconds=number)).isoformat())
        for number in range(20_000)
    ]
    path = put(tmp_path / "drop", "x.csv.gz", gzip.compress(rows(*lines).encode()))
    tracemalloc.start()
    for _ in records.read_records(path, config.feed):  # type: ignore[arg-type]
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert look(config)[0].written.changes == 20_000


def test_a_json_document_beyond_the_bound_is_refused_and_lines_are_not(
    connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_DOCUMENT_BYTES", 1_000)
    config = changes_config("bound", tmp_path / "drop", format="json")
    one = {
        "site": "S1",
        "zone": "Australia/Sydney",
        "evse": "a",
        "plug": "1",
        "kw": 1,
        "status": "X",
        "at": "2026-10-01T00:01:00Z",
    }
    put(tmp_path / "drop", "document.json", json.dumps([one] * 20, indent=1))
    put(tmp_path / "drop", "lines.json", "\n".join([json.dumps(one)] * 20) + "\nnot json\n")
    _, said = look(config)
    assert receipts(connection, "bound") == [("document.json", "refused"), ("lines.json", "taken")]
    assert "one document of more than 1000 bytes" in said[0]
    assert [(row[1], row[3][:12]) for row in quarantined(connection, "bound")] == [
        ("record 21: record 21", "is not JSON:")
    ]
