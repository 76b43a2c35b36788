"""A file of snapshots becomes exactly the three history files that say the same."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingestion.history import import_history
from ingestion.snapshots import SnapshotConfig, convert, load_snapshot_config
from ingestion.tables import HistoryFileError
from tests.feeds import count, history_config
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.strict_yaml import ConfigError

# In the layout of a public map's archive: no header, Irish local time without leading zeros, only what is not available.
CONFIG: dict[str, Any] = {
    "delimiter": "\t",
    "columns": ["date", "time", "point", "plug", "status", "position", "address", "longitude", "latitude"],
    "time": {
        "columns": ["date", "time"],
        "widths": [8, 4],
        "format": "%Y%m%d%H%M",
        "time_zone": "Europe/Dublin",
    },
    "evse": {"columns": ["point", "plug"]},
    "status": "status",
    "empty_marker": {"point": "NA"},
    "absent_status": "available",
    "assets": {
        "site_id": "{point}", "site_name": "{address}", "address": "{address}", "suburb": "", "postcode": "",
        "state": "", "country": "IE", "latitude": "{latitude}", "longitude": "{longitude}",
        "time_zone": "Europe/Dublin", "charger_id": "{point}", "evse_id": "{evse_id}", "connector_id": "{plug}",
        "connector_standard": "{plug}", "power_kw": "",
    },
}  # fmt: skip


def row(date: int, time: int, point: str, plug: str, status: str, longitude: float = -6.9) -> str:
    address = f'Main "Street", {point}'
    return "\t".join(map(str, (date, time, point, plug, status, f"{longitude},52.8", address, longitude, 52.8)))


EMPTY = "\t".join(("20180730", "10", "NA", *[""] * 6))
ROWS = [
    # Not in time order; 00:05 is written 5, and 23:55 UTC is the day before.
    row(20180730, 15, "P1", "CCS", "Occ"),
    row(20180730, 5, "P1", "CCS", "Occ"),
    row(20180730, 5, "P2", "Type2", "OOS"),
    # An EVSE twice in one snapshot: in agreement, and not.
    row(20180730, 5, "P2", "Type2", "OOS"),
    row(20180730, 20, "P1", "CCS", "Occ"),
    row(20180730, 20, "P1", "CCS", "Part", longitude=-7.1),
    EMPTY,
    # A snapshot with an empty marker beside a row has answered.
    row(20180730, 25, "P3", "CCS", "Occ"),
    EMPTY.replace("\t10\t", "\t25\t"),
    # Half an hour without the night's end.
    row(20180730, 1000, "P1", "CCS", "OOC"),
]


def write(folder: Path, rows: list[str], **changed: Any) -> tuple[Path, Path, Path]:
    settings = {key: value for key, value in (CONFIG | changed).items() if value is not None}
    (folder / "map.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    (folder / "map.tsv").write_text("".join(f"{line}\n" for line in rows), encoding="utf-8")
    return folder / "map.yml", folder / "map.tsv", folder / "out"


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(gzip.decompress(path.read_bytes()).decode("utf-8"), newline="")))


def test_snapshots_become_changes_contact_and_assets(tmp_path: Path) -> None:
    said = list(convert(*write(tmp_path, ROWS)))
    assert said == [
        "10 rows",
        "5 snapshots, 1 empty ones (no contact), 3 EVSEs",
        "2 rows repeat an EVSE in one snapshot, 1 of them disagree: the last one is used",
        "9 changes",
        "3 assets; 1 of them changed coordinates (the latest are used)",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "assets.csv.gz", "changes.csv.gz", "contact.csv.gz",
    ]  # fmt: skip
    # Summer time: an hour ahead of UTC. What the first snapshot does not list was available then.
    assert table(tmp_path / "out" / "changes.csv.gz") == [
        ["evse_id", "status", "observed_at"],
        ["P1/CCS", "Occ", "2018-07-29T23:05:00Z"],
        ["P2/Type2", "OOS", "2018-07-29T23:05:00Z"],
        ["P3/CCS", "available", "2018-07-29T23:05:00Z"],
        ["P2/Type2", "available", "2018-07-29T23:15:00Z"],
        ["P1/CCS", "Part", "2018-07-29T23:20:00Z"],
        ["P1/CCS", "available", "2018-07-29T23:25:00Z"],
        ["P3/CCS", "Occ", "2018-07-29T23:25:00Z"],
        ["P1/CCS", "OOC", "2018-07-30T09:00:00Z"],
        ["P3/CCS", "available", "2018-07-30T09:00:00Z"],
    ]
    assert table(tmp_path / "out" / "contact.csv.gz") == [
        ["contact_at", "is_complete"],
        ["2018-07-29T23:05:00Z", "true"],
        ["2018-07-29T23:15:00Z", "true"],
        ["2018-07-29T23:20:00Z", "true"],
        ["2018-07-29T23:25:00Z", "true"],
        ["2018-07-30T09:00:00Z", "true"],
    ]
    header, *assets = table(tmp_path / "out" / "assets.csv.gz")
    assert header == list(CONFIG["assets"])
    assert [dict(zip(header, values, strict=True)) for values in assets] == [
        {
            "site_id": point, "site_name": f'Main "Street", {point}', "address": f'Main "Street", {point}',
            "suburb": "", "postcode": "", "state": "", "country": "IE", "latitude": "52.8", "longitude": "-6.9",
            "time_zone": "Europe/Dublin", "charger_id": point, "evse_id": f"{point}/{plug}", "connector_id": plug,
            "connector_standard": plug, "power_kw": "",
        }
        for point, plug in [("P1", "CCS"), ("P2", "Type2"), ("P3", "CCS")]
    ]  # fmt: skip


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    config, source, _ = write(tmp_path, ROWS)
    for name in ("one", "two"):
        list(convert(config, source, tmp_path / name))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        # Nor does the time of writing stand in gzip's header.
        assert path.read_bytes()[4:8] == bytes(4)


def test_without_a_word_for_absent_an_evse_is_missing_from_when_it_is_gone(tmp_path: Path) -> None:
    list(convert(*write(tmp_path, ROWS, absent_status=None)))
    assert table(tmp_path / "out" / "changes.csv.gz")[1:] == [
        ["P1/CCS", "Occ", "2018-07-29T23:05:00Z"],
        ["P2/Type2", "OOS", "2018-07-29T23:05:00Z"],
        ["P2/Type2", "missing", "2018-07-29T23:15:00Z"],
        ["P1/CCS", "Part", "2018-07-29T23:20:00Z"],
        ["P1/CCS", "missing", "2018-07-29T23:25:00Z"],
        # Nothing is known of P3 before it was first seen.
        ["P3/CCS", "Occ", "2018-07-29T23:25:00Z"],
        ["P1/CCS", "OOC", "2018-07-30T09:00:00Z"],
        ["P3/CCS", "missing", "2018-07-30T09:00:00Z"],
    ]


def test_a_file_may_name_its_columns_itself(tmp_path: Path) -> None:
    header = "\t".join(CONFIG["columns"])
    list(convert(*write(tmp_path, [header, *ROWS], columns=None)))
    assert len(table(tmp_path / "out" / "changes.csv.gz")) == 10


def test_the_files_can_be_imported(tmp_path: Path, module_warehouse: str) -> None:
    list(convert(*write(tmp_path, ROWS)))
    with connect(Role.INGEST) as connection:
        imported = import_history(
            connection,
            history_config("converted"),
            assets=tmp_path / "out" / "assets.csv.gz",
            changes=tmp_path / "out" / "changes.csv.gz",
            contact=tmp_path / "out" / "contact.csv.gz",
            now=datetime.fromisoformat("2026-11-15T00:00:00Z"),
        )
    assert (imported.written.assets, imported.written.changes, imported.written.contacts) == (3, 9, 5)
    assert imported.written.quarantined == 0


# What is wrong with the file


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (row(20180730, 2561, "P1", "CCS", "Occ"), r"row 3: '201807302561' is not a time \(1 such rows\)"),
        (row(20181028, 130, "P1", "CCS", "Occ"), r"row 3: '201810280130' is not a time"),
        (row(20180325, 130, "P1", "CCS", "Occ"), r"row 3: '201803250130' is not a time"),
        ("20180730\t30\tP1\tCCS", r"row 3 has 4 values, there are 9 columns"),
        (row(20180730, 30, "P1", "CCS", "Occ") + "\tx", r"row 3 has 10 values, there are 9 columns"),
    ],
    ids=["no time", "a time that is twice", "a time that is not", "too short", "too long"],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: str, complaint: str) -> None:
    config, source, output = write(tmp_path, [*ROWS[:2], bad, *ROWS[2:]])
    with pytest.raises(HistoryFileError, match=complaint) as raised:
        list(convert(config, source, output))
    assert str(source) in str(raised.value)
    assert not output.exists()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"status": "state"}, "column state is missing; it has date, time"),
        ({"evse": {"columns": ["point", "socket"]}}, "column socket is missing"),
        ({"empty_marker": {"pole": "NA"}}, "column pole is missing"),
        ({"assets": CONFIG["assets"] | {"suburb": "{town}"}}, "column town is missing"),
        ({"columns": CONFIG["columns"][:-1]}, "column latitude is missing"),
        ({"columns": [*CONFIG["columns"], "more"]}, "row 1 has 9 values, there are 10 columns"),
    ],
)
def test_a_column_that_the_file_does_not_have_is_named(tmp_path: Path, changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(HistoryFileError, match=complaint):
        list(convert(*write(tmp_path, ROWS, **changed)))


def test_a_file_that_holds_no_snapshot_is_refused(tmp_path: Path) -> None:
    for rows, complaint in [([], "holds no row"), ([EMPTY], "holds no snapshot that lists an EVSE")]:
        with pytest.raises(HistoryFileError, match=complaint):
            list(convert(*write(tmp_path, rows)))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    config, source, output = write(tmp_path, ROWS)
    whole = gzip.compress(source.read_bytes() * 50)
    for content in (b"\xff\xfe\x00", whole[:-10], whole[:100] + b"\x00" * 50 + whole[150:]):
        source.write_bytes(content)
        with pytest.raises(HistoryFileError, match=r"map\.tsv: cannot be read"):
            list(convert(config, source, output))
    source.unlink()
    with pytest.raises(HistoryFileError, match=r"map\.tsv: cannot be read"):
        list(convert(config, source, output))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"status": None}, "status: missing key"),
        ({"assets": {"site_id": ""}}, "assets: missing site_name, address"),
        ({"time": CONFIG["time"] | {"widths": [8]}}, r"time\.widths: needs one number per column"),
        ({"time": CONFIG["time"] | {"time_zone": "Ireland"}}, r"time\.time_zone: .*'Ireland' is not an IANA"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, changed: dict[str, Any], complaint: str) -> None:
    config, _, _ = write(tmp_path, ROWS, **changed)
    with pytest.raises(ConfigError, match=complaint) as raised:
        load_snapshot_config(config)
    assert str(config) in str(raised.value)


def test_a_description_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yml"):
        load_snapshot_config(tmp_path / "nowhere.yml")


# The real archive


@pytest.fixture
def archive() -> tuple[Path, Path]:
    """Its description, and ten days of it."""
    config = REPOSITORY / "config" / "demo_real" / "esb_ecars_snapshots.yml"
    folder = Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    source = folder / "status_history" / "ireland_2018-11-01_to_10.tsv.xz"
    if not source.exists():
        pytest.skip(f"no shared data in {folder} (set SHARED_DATA)")
    return config, source


def test_ten_real_days_say_the_same_as_a_walk_through_the_file(
    archive: tuple[Path, Path], tmp_path: Path, module_warehouse: str
) -> None:
    config_path, source = archive
    said = list(convert(config_path, source, tmp_path))
    changes, contact = table(tmp_path / "changes.csv.gz")[1:], table(tmp_path / "contact.csv.gz")[1:]

    snapshots, empty = walk(load_snapshot_config(config_path), source)
    assert [moment for moment, _ in contact] == sorted(snapshots)
    assert set(empty).isdisjoint(snapshots)
    assert f"{len(snapshots)} snapshots, {len(empty)} empty ones (no contact), " in said[1]
    expected = []
    state: dict[str, str] = {}
    evses = sorted({evse for snapshot in snapshots.values() for evse in snapshot})
    for moment in sorted(snapshots):
        for evse in evses:
            word = snapshots[moment].get(evse, "available")
            if state.get(evse) != word:
                state[evse] = word
                expected.append([evse, word, moment])
    assert changes == expected

    with connect(Role.INGEST) as connection:
        imported = import_history(
            connection,
            history_config("esb_ecars"),
            assets=tmp_path / "assets.csv.gz",
            changes=tmp_path / "changes.csv.gz",
            contact=tmp_path / "contact.csv.gz",
            now=datetime.fromisoformat("2026-11-15T00:00:00Z"),
        )
        assert count(connection, "quarantine", "esb_ecars") == 0
    assert imported.written.changes == len(changes)
    assert imported.written.contacts == len(snapshots)
    assert imported.written.assets == len(evses)


def walk(config: SnapshotConfig, source: Path) -> tuple[dict[str, dict[str, str]], Counter[str]]:
    """Snapshots by time, each EVSE to its last word, and the empty ones; read line by line, in winter (Irish time is UTC)."""
    import lzma

    snapshots: dict[str, dict[str, str]] = {}
    empty: Counter[str] = Counter()
    with lzma.open(source, "rt", encoding=config.encoding, newline="\n") as lines:
        for line in lines:
            date, clock, point, plug, status, *_ = line.rstrip("\r\n").split("\t")
            hour, minute = divmod(int(clock), 100)
            moment = datetime.strptime(f"{date} +0000", "%Y%m%d %z") + timedelta(hours=hour, minutes=minute)
            text = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
            if point == "NA":
                empty[text] += 1
            else:
                snapshots.setdefault(text, {})[f"{point}/{plug}"] = status
    return snapshots, Counter({moment: times for moment, times in empty.items() if moment not in snapshots})
