"""A new version of a rule-set, and a rule-set that nobody thought of, are rows of seeds: no SQL."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ingestion.model import Contact, Outcome, reference
from ingestion.told import Change
from ingestion.writer import Writer
from tests.feeds import asset, history_config
from tests.warehouse.reading import rows_of
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.transform import transform

START = datetime(2026, 10, 1, tzinfo=UTC)
Row = dict[str, str]


def extend(seed: Path, like: tuple[str, str], change: Callable[[Row], Row]) -> None:
    """Add to a seed, changed, the rows of one rule-set and version."""
    with seed.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    added = [change(dict(row)) for row in rows if (row["rule_set"], row["rule_set_version"]) == like]
    assert added
    with seed.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, columns, lineterminator="\n").writerows(added)


def write() -> None:
    """1,000 s in all: 500 available, 200 blocked, 200 out of order, 100 unknown."""
    config = history_config("wattle", ended_at=START + timedelta(seconds=1000))
    told = ((0, "available"), (500, "blocked"), (700, "out_of_order"), (900, "unknown"))
    with connect(Role.INGEST) as connection, Writer(connection, config).batch() as batch:
        described = asset("A", power_kw=Decimal(22), valid_from=START)
        batch.add_assets([described], START, is_whole_evse=False)
        key = batch.evse_keys()[reference("S1", "A")]
        batch.add_changes(Change(key, START + timedelta(seconds=at), word, START, None) for at, word in told)
        batch.add_contacts([Contact(START, START + timedelta(seconds=1000), Outcome.ALIVE, START)])


@pytest.mark.usefixtures("warehouse")
def test_a_second_version_and_a_new_rule_set_stand_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(REPOSITORY / "dbt_project", project)
    monkeypatch.setattr("warehouse.transform.PROJECT", project)
    write()
    transform()
    levels = [
        f"{level}_uptime_{period}"
        for level in ("connector", "evse", "charger", "site", "group")
        for period in ("daily", "monthly", "rolling_12_months", "yearly")
        if (level, period) != ("group", "rolling_12_months")
    ]
    before = {level: rows_of(f"fct_{level}") for level in levels}
    seeds, first = project / "seeds", ("evc_2025", "1")
    extend(seeds / "rule_sets.csv", first, lambda row: row | {"rule_set_version": "2", "target_ratio": "0.5"})
    extend(
        seeds / "rule_set_statuses.csv",
        first,
        lambda row: row | {"rule_set_version": "2"} | ({"class": "up"} if row["status"] == "blocked" else {}),
    )
    western = {"rule_set": "wa_2027", "rule_set_version": "1"}
    extend(
        seeds / "rule_sets.csv",
        first,
        lambda row: (
            row | western | {"formula": "not_down_over_measured", "target_comparison": "gt", "target_ratio": "0.5"}
        ),
    )
    classes = {"blocked": "excluded", "unknown": "down", "available": "up", "out_of_order": "down"}
    extend(
        seeds / "rule_set_statuses.csv",
        first,
        lambda row: row | western | {"class": classes.get(row["status"], row["class"])},
    )
    assert transform().is_full_refresh
    new = "(rule_set, rule_set_version) in (('evc_2025', 2), ('wa_2027', 1))"
    for level in levels:
        assert rows_of(f"fct_{level}", condition=f"not {new}") == before[level]
        figures = rows_of(
            f"fct_{level}",
            "rule_set, rule_set_version, up_seconds, down_seconds, excluded_seconds, uptime_ratio, target_result",
            new + (" and grouping = 'all'" if level.startswith("group") else ""),
        )
        assert set(figures) == {
            # 700 / 900, and (1,000 - 300) / 1,000
            ("evc_2025", 2, 700, 200, 0, Decimal("0.7777777778"), "met"),
            ("wa_2027", 1, 500, 300, 200, Decimal("0.7000000000"), "met"),
        }
    assert {
        (rule_set, version, uptime)
        for rule_set, version, uptime in rows_of(
            "fct_site_uptime_monthly", "rule_set, rule_set_version, uptime_ratio", "rule_set = 'evc_2025'"
        )
    } == {("evc_2025", 1, Decimal("0.5555555556")), ("evc_2025", 2, Decimal("0.7777777778"))}
