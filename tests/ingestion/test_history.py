"""History files: every form that is read, and each bad record told apart from the good ones beside it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import resource
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest

from ingestion.batch import Written
from ingestion.config import CpoConfig
from ingestion.handover import import_waiting
from ingestion.history import ASSET_COLUMNS, Imported, import_history
from ingestion.tables import HistoryFileError
from tests.feeds import changes_of, count, history_config, polled_config, whole_raw
from warehouse.connection import Role, connect

NOW = datetime(2026, 11, 15, tzinfo=UTC)
GOOD_AT = datetime(2026, 10, 5, 1, 2, 3, tzinfo=UTC)
GOOD = ["E1", "available", "2026-10-05T01:02:03Z"]
CHANGES = ["evse_id", "status", "observed_at"]
ASSET = {
    "site_id": "S1", "site_name": "Main St", "address": "1 Main St", "suburb": "Orange", "postcode": "2800",
    "state": "NSW", "latitude": "-33.28", "longitude": "149.1", "time_zone": "Australia/Sydney", "charger_id": "C1",
    "evse_id": "E1", "connector_id": "1", "connector_standard": "IEC_62196_T2", "power_kw": "7.4",
}  # fmt: skip


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        yield opened


class Importer:
    """Imports into one CPO."""

    def __init__(self, connection: psycopg.Connection, config: CpoConfig, folder: Path) -> None:
        self.connection, self.config, self.folder = connection, config, folder

    def write(self, name: str, rows: list[list[str]]) -> Path:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return self.write_bytes(name, text.getvalue().encode())

    def write_bytes(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def __call__(
        self, *, assets: Path | None = None, changes: Path | None = None, contact: Path | None = None
    ) -> Imported:
        imported = import_history(
            self.connection, self.config, assets=assets, changes=changes, contact=contact, now=NOW
        )
        self.connection.commit()
        return imported

    def assets(self, *records: dict[str, str], name: str = "assets.csv") -> Imported:
        columns = list(dict.fromkeys(key for record in records for key in record))
        rows = [[record.get(column, "") for column in columns] for record in records]
        return self(assets=self.write(name, [columns, *rows]))

    def changes(self, *rows: list[str], header: list[str] = CHANGES, name: str = "changes.csv") -> Imported:
        return self(changes=self.write(name, [header, *rows]))

    def contact(self, header: list[str], *rows: list[str]) -> Imported:
        return self(contact=self.write("contact.csv", [header, *rows]))

    def stored(self) -> list[tuple[str, datetime, str | None]]:
        return changes_of(self.connection, self.config.cpo_id)

    def contacts(self) -> list[tuple[datetime, datetime, str]]:
        return self.connection.execute(
            "select contact_from, contact_until, outcome from raw.feed_contact inner join raw.feed using (feed_key)"
            " where cpo_id = %s order by contact_from, contact_until",
            (self.config.cpo_id,),
        ).fetchall()

    def quarantined(self) -> list[tuple[str, str | None, str]]:
        return self.connection.execute(
            "select record_ref, field, reason from raw.quarantine inner join raw.feed using (feed_key)"
            " where cpo_id = %s order by split_part(record_ref, ' ', 2)::integer, quarantine_key",
            (self.config.cpo_id,),
        ).fetchall()

    def described(self, *columns: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(
            f"select {', '.join(columns)} from raw.asset_version inner join raw.feed using (feed_key)"
            " where cpo_id = %s order by valid_from, asset_version_key",
            (self.config.cpo_id,),
        ).fetchall()


_made: Iterator[int] = iter(range(1, 10_000))


@pytest.fixture
def make(connection: psycopg.Connection, tmp_path: Path) -> Any:
    def make_importer(config: CpoConfig | None = None, **feed: Any) -> Importer:
        return Importer(connection, config or history_config(f"cpo_{next(_made)}", **feed), tmp_path)

    return make_importer


@pytest.fixture
def imports(make: Any) -> Importer:
    """A CPO with EVSE E1 described."""
    importer: Importer = make()
    assert importer.assets(ASSET).written == Written(assets=1)
    return importer


# Forms of a file


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lzma.compress, bz2.compress], ids=["plain", "gzip", "xz", "bzip2"]
)
def test_a_compressed_file_is_known_by_what_it_is(imports: Importer, pack: Any) -> None:
    path = imports.write_bytes("changes.dat", pack(b"evse_id,status,observed_at\nE1,available,2026-10-05T01:02:03Z\n"))
    assert imports(changes=path).written == Written(changes=1)
    assert imports.stored() == [("e1", GOOD_AT, "available")]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffevse_id,status,observed_at\r\nE1,available,2026-10-05T01:02:03Z\r\n",
        " evse_id , status,observed_at \n E1 ,\tavailable , 2026-10-05T01:02:03Z \n",
        '"evse_id", "status", "observed_at"\n"E1", "available", "2026-10-05T01:02:03Z"\n',
        "observed_at,status,evse_id\n2026-10-05T01:02:03Z,available,E1",
        "\n".join(("evse_id,status,observed_at", "", "E1,available,2026-10-05T01:02:03Z", "", "")),
        "evse_id,status,observed_at,received_at\nE1,available,2026-10-05T01:02:03Z,\n",
    ],
    ids=["byte order mark and CRLF", "blanks", "quotes after blanks", "other order", "empty lines", "optional empty"],
)
def test_spelling_of_a_csv_file_does_not_matter(imports: Importer, text: str) -> None:
    path = imports.write_bytes("changes.csv", text.encode())
    assert imports(changes=path).written == Written(changes=1)
    assert imports.stored() == [("e1", GOOD_AT, "available")]


def test_quoted_commas_and_newlines_belong_to_their_value(make: Any) -> None:
    imports = make()
    imports.assets({**ASSET, "address": "Level 2,\n1 Main St", "site_name": 'The "Old" Mill'})
    assert imports.described("address", "site_name") == [("Level 2,\n1 Main St", 'The "Old" Mill')]


def test_a_parquet_file_may_be_typed(make: Any) -> None:
    imports = make(naive_time_zone="Australia/Sydney")
    sydney = timezone(timedelta(hours=11))
    assets = {name: pa.array([value]) for name, value in ASSET.items()} | {
        "postcode": pa.array([800], pa.int16()),
        "latitude": pa.array([-12.46], pa.float64()),
        "power_kw": pa.array([Decimal("7.40")]),
        "evse_id": pa.array([17], pa.int64()),
        "charger_id": pa.array([None], pa.string()),
        "connector_id": pa.array(["1"]).dictionary_encode(),
        "valid_from": pa.array([date(2026, 10, 1)], pa.date32()),
        "commissioned_on": pa.array([datetime(2026, 9, 1)], pa.timestamp("ms")),  # noqa: DTZ001 - a column without zones
        "tags": pa.array([["a", "b"]]),
        "nothing": pa.array([None], pa.null()),
        "bays": pa.array([2.0]),
    }
    pa.parquet.write_table(pa.table(assets), imports.folder / "assets.parquet")
    imports(assets=imports.folder / "assets.parquet")
    assert imports.quarantined() == []
    assert imports.described(
        "postcode", "latitude", "power_kw", "evse_id", "charger_id", "connector_id", "valid_from",
        "commissioned_on::text", "attributes",
    ) == [
        (
            "0800", -12.46, Decimal("7.400"), "17", "17", "1", datetime(2026, 9, 30, 14, tzinfo=UTC),
            "2026-09-01", {"bays": "2", "tags": "['a', 'b']"},
        )
    ]  # fmt: skip

    for name, observed_at in {
        "aware": pa.array([datetime(2026, 10, 5, 12, 2, 3, tzinfo=sydney), None], pa.timestamp("us", "Australia/Sydney")),
        "naive": pa.array([datetime(2026, 10, 5, 12, 2, 3), None], pa.timestamp("ns")),  # noqa: DTZ001
        "texts": pa.array(["2026-10-05T12:02:03+11:00", None]),
        "seconds": pa.array([datetime(2026, 10, 5, 1, 2, 3, tzinfo=UTC), None], pa.timestamp("s", "UTC")),
    }.items():  # fmt: skip
        table = pa.table(
            {"evse_id": pa.array([17.0, None]), "status": pa.array([name, name]), "observed_at": observed_at}
        )
        pa.parquet.write_table(table, imports.folder / f"{name}.parquet")
        assert imports(changes=imports.folder / f"{name}.parquet").change_records == 2
    assert imports.stored() == [("17", GOOD_AT, name) for name in ("aware", "naive", "texts", "seconds")]
    assert imports.quarantined() == [("record 2", "evse_id", "is empty")] * 4


def test_a_parquet_file_of_pandas_is_read_by_its_columns(imports: Importer) -> None:
    frame = pa.table({name: [value] for name, value in zip(CHANGES, GOOD, strict=True)}).to_pandas()
    frame.set_index("evse_id").to_parquet(imports.folder / "indexed.parquet")
    frame.set_index(pa.array([5]).to_pandas()).to_parquet(imports.folder / "labelled.parquet")
    frame.iloc[:0].to_parquet(imports.folder / "empty.parquet")
    assert imports(changes=imports.folder / "indexed.parquet").written == Written(changes=1)
    assert imports(changes=imports.folder / "labelled.parquet").change_records == 1
    assert imports(changes=imports.folder / "empty.parquet").change_records == 0
    assert imports.quarantined() == []


def test_whole_numbers_in_a_csv_file_stay_as_they_are_written(make: Any) -> None:
    imports = make()
    imports.assets({**ASSET, "evse_id": "17.0", "postcode": "800"}, {**ASSET, "evse_id": "18", "postcode": "08000"})
    assert imports.described("evse_id", "postcode") == [("17.0", "0800"), ("18", "08000")]


@pytest.mark.parametrize(
    ("postcode", "country", "kept"),
    [("800", "", "0800"), ("800", "au", "0800"), ("800", "AUS", "0800"), ("800", "IS", "800"), ("80", "", "80"),
     ("2000", "AU", "2000"), ("8OO", "", "8OO"), ("", "", None)],
)  # fmt: skip
def test_an_australian_postcode_has_four_digits(make: Any, postcode: str, country: str, kept: str | None) -> None:
    imports = make()
    imports.assets({**ASSET, "postcode": postcode, "country": country})
    assert imports.described("postcode", "country") == [(kept, country or None)]


# Files that are not taken


def test_a_file_that_cannot_be_taken_is_refused_by_name_and_leaves_nothing(imports: Importer) -> None:
    good = b"evse_id,status,observed_at\nE1,available,2026-10-05T01:02:03Z\n"
    long = b"evse_id,status,observed_at\n" + b"".join(
        b"E1,available,2026-10-%02dT01:02:%02dZ\n" % (day, second) for day in range(1, 29) for second in range(60)
    )
    packed = gzip.compress(long)
    files = {
        "picture.csv": (b"\x89PNG\r\n\x1a\n\x00\x00", "cannot be read"),
        "page.csv": (b"<!DOCTYPE html><html></html>\n", "column evse_id, status, observed_at is missing"),
        "semicolons.csv": (good.replace(b",", b";"), "column evse_id, status, observed_at is missing"),
        "utf16.csv": (good.decode().encode("utf-16"), "cannot be read"),
        "empty.csv": (b"", "is empty"),
        "empty.csv.gz": (gzip.compress(b""), "is empty"),
        "cut.csv.gz": (packed[:-20], "cannot be read"),
        "broken.csv.gz": (packed[:200] + b"\x00\xff" * 50 + packed[300:], "cannot be read"),
        "cut.csv.xz": (lzma.compress(long)[:-20], "cannot be read"),
        "cut.csv.bz2": (bz2.compress(long)[:-20], "cannot be read"),
        "cut.parquet": (b"PAR1" + b"x" * 100, "cannot be read"),
        "twice.csv": (b"evse_id,status,observed_at,status\n", "stands twice"),
        "short.csv": (b"evse_id,observed_at\nE1,2026-10-05T01:02:03Z\n", "column status is missing; it has evse_id, obs"),
        "extra.csv": (b"evse_id,status,observed_at,kwh\n", "column kwh is not known here"),
    }  # fmt: skip
    before = whole_raw(imports.connection)
    for name, (content, complaint) in files.items():
        path = imports.write_bytes(name, content)
        with pytest.raises(HistoryFileError) as raised:
            imports(changes=path)
        assert str(path) in str(raised.value), name
        assert complaint in str(raised.value), str(raised.value)
        imports.connection.rollback()
    with pytest.raises(HistoryFileError, match=r"nowhere\.csv: no such file"):
        imports(changes=imports.folder / "nowhere.csv")
    with pytest.raises(HistoryFileError, match="cannot be read"):
        imports(changes=imports.folder)
    imports.connection.rollback()
    assert whole_raw(imports.connection) == before


def test_a_bad_file_keeps_the_good_ones_of_the_same_import_out(imports: Importer) -> None:
    changes = imports.write("changes.csv", [CHANGES, GOOD])
    contact = imports.write("contact.csv", [["contact_at"], ["2026-10-05T01:02:03Z"]])
    with pytest.raises(HistoryFileError, match=r"contact\.csv: column is_complete is missing"):
        imports(changes=changes, contact=contact)
    imports.connection.rollback()
    assert imports.stored() == []


def test_a_contact_file_needs_the_columns_of_a_poll_or_of_a_stream(imports: Importer) -> None:
    for header, complaint in [
        (["is_complete"], "needs contact_at, is_complete or contact_from, contact_until"),
        (["contact_from"], "column contact_until is missing"),
        (["contact_at", "is_complete", "kwh"], "column kwh is not known here"),
    ]:
        with pytest.raises(HistoryFileError, match=complaint):
            imports.contact(header)
        imports.connection.rollback()


def test_a_file_with_nothing_but_a_header_is_taken(imports: Importer) -> None:
    assert imports.changes().written == Written()
    assert imports.contact(["contact_at", "is_complete"]).written == Written()
    assert imports.contact(["contact_from", "contact_until"]).written == Written()
    columns = imports.write("none.csv", [[*ASSET_COLUMNS, "valid_from", "commissioned_on"]])
    assert imports(assets=columns).written == Written()


# Changes


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (["", *GOOD[1:]], "evse_id", "is empty"),
        (["E1", "", GOOD[2]], "status", "is empty"),
        (["E1", "x" * 201, GOOD[2]], "status", "has more than 200 characters"),
        (["E1", "a\x00b", GOOD[2]], "status", "holds a NUL character"),
        (["E9", *GOOD[1:]], "evse_id", "'E9' is not described by any asset of"),
        (["E1", "available"], None, "has 2 values, the header has 3"),
        ([*GOOD, "x"], None, "has 4 values, the header has 3"),
        (["E1", "available", ""], "observed_at", "is empty"),
        (["E1", "available", "05/10/2026 01:02"], "observed_at", "is not an ISO 8601 time"),
        (["E1", "available", "1759276800"], "observed_at", "is not an ISO 8601 time"),
        (["E1", "available", "now"], "observed_at", "is not an ISO 8601 time"),
        (["E1", "available", "2026-10-05T25:00:00Z"], "observed_at", "is not an ISO 8601 time"),
        (["E1", "available", "2026-10-05"], "observed_at", "'2026-10-05' is a date without a time of day"),
        (["E1", "available", "2026-10"], "observed_at", "'2026-10' is a date without a time of day"),
        (["E1", "available", "20261005"], "observed_at", "'20261005' is a date without a time of day"),
        (["E1", "available", "2026-11-15T00:02:01Z"], "observed_at", "is in the future"),
        (["E1", "available", "9999-12-31T00:00:00Z"], "observed_at", "is in the future"),
        (["E1", "available", "2009-12-31T23:59:59Z"], "observed_at", "is before 2010-01-01"),
        (["E1", "available", "0001-01-01T00:00:00"], "observed_at", "is before 2010-01-01"),
    ],
)
def test_a_bad_record_is_quarantined_and_the_good_ones_beside_it_are_stored(
    imports: Importer, row: list[str], field: str | None, reason: str
) -> None:
    imported = imports.changes(["E1", "blocked", "2026-10-05T00:00:00Z"], row, GOOD)
    assert imported.change_records == 3
    assert imported.written == Written(changes=2, quarantined=1)
    assert imports.stored() == [("e1", datetime(2026, 10, 5, tzinfo=UTC), "blocked"), ("e1", GOOD_AT, "available")]
    ((record, where, why),) = imports.quarantined()
    assert (record, where) == ("record 2", field)
    assert reason in why
    stored = imports.connection.execute(
        "select source, payload from raw.quarantine inner join raw.feed using (feed_key) where cpo_id = %s",
        (imports.config.cpo_id,),
    ).fetchone()
    expected = row if field is None else dict(zip(CHANGES, row, strict=True))
    assert stored is not None
    assert stored[0] == "changes.csv"
    assert json.loads(stored[1]) == expected


@pytest.mark.parametrize(
    ("text", "observed_at"),
    [
        ("2026-10-05T01:02:03Z", GOOD_AT),
        ("2026-10-05t01:02:03z", GOOD_AT),
        ("2026-10-05 01:02:03+00", GOOD_AT),
        ("2026-10-05 12:02:03 +11:00", GOOD_AT),
        ("2026-10-05T12:02:03+1100", GOOD_AT),
        ("2026-10-05T12:02:03", GOOD_AT),
        ("2026-10-05 12:02:03", GOOD_AT),
        ("20261005T120203", GOOD_AT),
        ("2026-10-05T01:02:03.123456789Z", GOOD_AT.replace(microsecond=123456)),
        ("2026-10-05T12:02:03.987654321", GOOD_AT.replace(microsecond=987654)),
        ("2026-10-05T01:02Z", GOOD_AT.replace(second=0)),
        ("2026-10-05T12", GOOD_AT.replace(minute=0, second=0)),
        # The hour before and the hour after New South Wales puts its clocks forward, and back.
        ("2026-10-04T01:59:59", datetime(2026, 10, 3, 15, 59, 59, tzinfo=UTC)),
        ("2026-10-04T03:00:00", datetime(2026, 10, 3, 16, 0, 0, tzinfo=UTC)),
        ("2026-04-05T03:00:00", datetime(2026, 4, 4, 17, 0, 0, tzinfo=UTC)),
        # Never, and twice.
        ("2026-10-04T02:30:00", None),
        ("2026-04-05T02:30:00", None),
        ("2026-04-05T02:30:00+11:00", datetime(2026, 4, 4, 15, 30, tzinfo=UTC)),
        # Clocks differ a little.
        ("2026-11-15T00:02:00Z", datetime(2026, 11, 15, 0, 2, tzinfo=UTC)),
    ],
)
def test_a_time_means_what_it_says(make: Any, text: str, observed_at: datetime | None) -> None:
    imports = make(naive_time_zone="Australia/Sydney")
    imports.assets(ASSET)
    # Beside one of another form, which must not change how it is read.
    imports.changes(["E1", "x", text], ["E1", "y", "2026-09-01T00:00:00Z"], ["E1", "z", "2026-09-02T00:00:00"])
    assert [moment for _, moment, word in imports.stored() if word == "x"] == ([observed_at] if observed_at else [])
    if observed_at is None:
        assert imports.quarantined() == [
            ("record 1", "observed_at", f"'{text}' is not an ISO 8601 time, or not one in Australia/Sydney")
        ]


def test_the_time_of_receipt_is_the_files_own_when_it_says_so(imports: Importer) -> None:
    header = [*CHANGES, "received_at"]
    imports.changes(
        [*GOOD, "2026-10-06T00:00:00Z"],
        ["E1", "blocked", "2026-10-07T00:00:00Z", ""],
        ["E1", "reserved", "2026-10-08T00:00:00Z", "yesterday"],
        header=header,
    )
    rows = imports.connection.execute(
        "select status_word, received_at from raw.status_change inner join raw.feed using (feed_key)"
        " where cpo_id = %s order by observed_at",
        (imports.config.cpo_id,),
    ).fetchall()
    assert rows == [("available", datetime(2026, 10, 6, tzinfo=UTC)), ("blocked", NOW)]
    assert [row[:2] for row in imports.quarantined()] == [("record 3", "received_at")]


def test_the_word_missing_says_absent(imports: Importer) -> None:
    imports.changes(GOOD, ["E1", "Missing", "2026-10-06T00:00:00Z"], ["E1", "absent", "2026-10-07T00:00:00Z"])
    assert [word for _, _, word in imports.stored()] == ["available", None, "absent"]


def test_an_evse_is_the_same_in_other_letters(imports: Importer) -> None:
    imports.assets({**ASSET, "site_id": "s1", "evse_id": "e1", "charger_id": "c1"})
    imports.changes(GOOD, ["e1", "blocked", "2026-10-06T00:00:00Z"])
    assert imports.stored() == [("e1", GOOD_AT, "available"), ("e1", datetime(2026, 10, 6, tzinfo=UTC), "blocked")]
    names = ("site", "charger", "evse")
    assert {name: count(imports.connection, name, imports.config.cpo_id) for name in names} == dict.fromkeys(names, 1)


def test_an_evse_id_that_stands_at_two_sites_is_not_guessed(imports: Importer) -> None:
    imports.assets({**ASSET, "site_id": "S2"})
    imports.changes(GOOD)
    assert imports.stored() == []
    assert imports.quarantined() == [("record 1", "evse_id", "'E1' stands at several sites: s1/e1, s2/e1")]


def test_two_words_at_one_time_keep_the_order_of_the_file(imports: Importer) -> None:
    changes = [GOOD, ["E1", "blocked", GOOD[2]], ["E1", "reserved", GOOD[2]]]
    imports.changes(*changes)
    before = whole_raw(imports.connection)
    assert [word for _, _, word in imports.stored()] == ["available", "blocked", "reserved"]
    imports.changes(*reversed(changes))
    assert whole_raw(imports.connection) == before


# Contact

AT = ["2026-10-05T00:00:00Z", "2026-10-05T00:05:00Z", "2026-10-05T00:10:00Z"]
MOMENTS = [datetime(2026, 10, 5, 0, minute, tzinfo=UTC) for minute in (0, 5, 10)]


def test_a_poll_is_complete_or_only_alive(imports: Importer) -> None:
    header = ["contact_at", "is_complete"]
    yes, no = ["true", "TRUE", "t", "1", "Yes", " y "], ["false", "False", "F", "0", "no", "N"]
    for word in yes + no:
        imports.config = history_config(f"cpo_{next(_made)}")
        imports.contact(header, [AT[0], word])
        assert imports.contacts() == [(MOMENTS[0], MOMENTS[0], "complete" if word in yes else "alive")], word
    imports.config = history_config(f"cpo_{next(_made)}")
    assert imports.contact(header, [AT[0], "maybe"], [AT[1], ""], ["", "true"], [AT[2], "true"]).written == Written(
        contacts=1, quarantined=3
    )
    assert imports.quarantined() == [
        ("record 1", "is_complete", "'maybe' is neither true nor false"),
        ("record 2", "is_complete", "is empty"),
        ("record 3", "contact_at", "is empty"),
    ]


def test_a_stretch_of_a_stream_is_alive_unless_it_says_complete(imports: Importer) -> None:
    header = ["contact_from", "contact_until", "is_complete"]
    imports.contact(header, [AT[0], AT[1], ""], [AT[1], AT[2], "true"], [AT[2], AT[0], ""], [AT[0], "", "true"])
    assert imports.contacts() == [(MOMENTS[0], MOMENTS[1], "alive"), (MOMENTS[1], MOMENTS[2], "complete")]
    assert imports.quarantined() == [
        ("record 3", "contact_until", f"'{AT[0]}' is before contact_from"),
        ("record 4", "contact_until", "is empty"),
    ]
    imports.contact(header[:2], [AT[0], AT[2]])
    assert (MOMENTS[0], MOMENTS[2], "alive") in imports.contacts()


def test_polls_and_stretches_may_stand_in_one_file(imports: Importer) -> None:
    imports.contact(
        ["contact_at", "is_complete", "contact_from", "contact_until"],
        [AT[0], "true", "", ""],
        ["", "", AT[1], AT[2]],
        [AT[0], "true", AT[1], AT[2]],
        [AT[0], "true", AT[1], ""],
        ["", "true", "", ""],
        ["", "true", AT[1], ""],
        [AT[0], "", "", ""],
    )
    assert imports.contacts() == [(MOMENTS[0], MOMENTS[0], "complete"), (MOMENTS[1], MOMENTS[2], "alive")]
    both = "is given beside contact_from or contact_until: a record is a poll or a stretch"
    neither = "is empty, and so is contact_from or contact_until"
    assert imports.quarantined() == [
        ("record 3", "contact_at", both),
        ("record 4", "contact_at", both),
        ("record 5", "contact_at", neither),
        ("record 6", "contact_at", neither),
        ("record 7", "is_complete", "is empty"),
    ]


def test_contact_of_a_typed_parquet_file_is_read(imports: Importer) -> None:
    table = pa.table({"contact_at": pa.array(MOMENTS[:2], pa.timestamp("ns", "UTC")), "is_complete": [True, False]})
    pa.parquet.write_table(table, imports.folder / "contact.parquet")
    imports(contact=imports.folder / "contact.parquet")
    assert imports.contacts() == [(MOMENTS[0], MOMENTS[0], "complete"), (MOMENTS[1], MOMENTS[1], "alive")]


# Assets


def test_a_column_that_no_table_knows_is_kept_in_attributes(make: Any) -> None:
    imports = make()
    imports.assets({**ASSET, "round": "2", "note": "", "emi3_id": "AU*ABC*E1", "country": "AU"})
    assert imports.described("attributes", "emi3_id", "country") == [({"round": "2"}, "AU*ABC*E1", "AU")]


@pytest.mark.parametrize(
    ("column", "value", "reason", "is_used"),
    [
        ("site_id", "", "is empty", False),
        ("evse_id", "", "is empty", False),
        ("connector_id", "", "is empty", False),
        ("evse_id", "x" * 201, "has more than 200 characters", False),
        ("charger_id", "x" * 201, "has more than 200 characters", False),
        ("site_name", "a\x00b", "holds a NUL character", False),
        ("time_zone", "", "'' is not an IANA time zone", False),
        ("time_zone", "AEST", "'AEST' is not an IANA time zone", False),
        ("valid_from", "last May", "'last May' is not an ISO 8601 time or date", False),
        ("valid_from", "2026-10", "'2026-10' is not an ISO 8601 time or date", False),
        ("valid_from", "20261001", "'20261001' is not an ISO 8601 time or date", False),
        ("valid_from", "2026-02-30", "'2026-02-30' is not an ISO 8601 time or date", False),
        ("latitude", "133.2", "'133.2' is not a number from -90 to 90; kept without it", True),
        ("longitude", "nan", "'nan' is not a number from -180 to 180; kept without it", True),
        ("power_kw", "fast", "'fast' is not a power in kW; kept without it", True),
        ("power_kw", "NaN", "'NaN' is not a power in kW; kept without it", True),
        ("power_kw", "inf", "'inf' is not a power in kW; kept without it", True),
        ("power_kw", "-7", "'-7' is not a power in kW; kept without it", True),
        ("power_kw", "1e999999", "'1e999999' is not a power in kW; kept without it", True),
        ("commissioned_on", "2026-13-01", "'2026-13-01' is not an ISO 8601 date; kept without it", True),
        ("commissioned_on", "2026-10-0199", "'2026-10-0199' is not an ISO 8601 date; kept without it", True),
    ],
)
def test_a_bad_value_of_an_asset_is_told(make: Any, column: str, value: str, reason: str, is_used: bool) -> None:
    imports = make()
    other = {**ASSET, "evse_id": "E2", "charger_id": "C2"}
    imports.assets({**ASSET, column: value}, other)
    assert imports.described("evse_id") == ([("E1",), ("E2",)] if is_used else [("E2",)])
    assert imports.quarantined() == [("record 1", column, reason)]


def test_the_feeds_zone_stands_in_for_one_that_is_not_given(make: Any) -> None:
    imports = make(time_zone="Australia/Perth")
    imports.assets({**ASSET, "time_zone": ""}, {**ASSET, "evse_id": "E2"})
    assert imports.described("time_zone") == [("Australia/Perth",), ("Australia/Sydney",)]


def test_a_date_from_which_a_description_holds_begins_at_the_sites_midnight(make: Any) -> None:
    imports = make(naive_time_zone="Australia/Brisbane")
    dates = {
        "E1": ("Australia/Sydney", "2026-10-05", datetime(2026, 10, 4, 13, tzinfo=UTC)),
        "E2": ("Australia/Perth", "2026-10-05", datetime(2026, 10, 4, 16, tzinfo=UTC)),
        "E3": ("Australia/Perth", "2026-10-05T00:00:00", datetime(2026, 10, 4, 14, tzinfo=UTC)),
        "E4": ("Australia/Perth", "2026-10-05T00:00:00Z", datetime(2026, 10, 5, tzinfo=UTC)),
        "E5": ("Australia/Perth", "", NOW),
    }
    imports.assets(
        *({**ASSET, "evse_id": evse, "time_zone": zone, "valid_from": text} for evse, (zone, text, _) in dates.items())
    )
    assert dict(imports.described("evse_id", "valid_from")) == {evse: moment for evse, (_, _, moment) in dates.items()}


def test_descriptions_of_different_times_are_versions(make: Any) -> None:
    imports = make()
    old, new = {**ASSET, "valid_from": "2026-01-01"}, {**ASSET, "power_kw": "22", "valid_from": "2026-06-01"}
    imports.assets(new, old)
    assert imports.described("power_kw") == [(Decimal("7.400"),), (Decimal("22.000"),)]
    assert imports.assets(new, old).written == Written()
    assert imports.quarantined() == []


def test_the_first_of_two_descriptions_that_contradict_is_used_and_both_are_told(make: Any) -> None:
    imports = make()
    imports.assets(ASSET, ASSET, {**ASSET, "power_kw": "22"})
    assert imports.described("power_kw") == [(Decimal("7.400"),)]
    assert imports.quarantined() == [
        ("record 3", "connector_id", "is described twice, and differently; the first description is used")
    ]


# Again


def test_the_same_files_again_change_nothing(imports: Importer) -> None:
    assets = imports.write(
        "a.csv", [[*ASSET, "valid_from"], [*ASSET.values(), "2026-01-01"], [*ASSET.values(), "never"]]
    )
    changes = imports.write("c.csv", [CHANGES, GOOD, ["E1", "missing", "2026-10-06T00:00:00Z"], ["E9", *GOOD[1:]]])
    contact = imports.write("k.csv", [["contact_at", "is_complete"], [AT[0], "true"], [AT[1], "no"], ["x", "true"]])
    first = imports(assets=assets, changes=changes, contact=contact)
    assert first.written == Written(assets=1, changes=2, contacts=2, quarantined=3)
    before = whole_raw(imports.connection)
    again = imports(assets=assets, changes=changes, contact=contact)
    assert again == Imported(2, 3, 3, Written())
    assert whole_raw(imports.connection) == before


def test_a_polled_feed_can_be_filled_from_files_in_their_own_words(connection: psycopg.Connection, make: Any) -> None:
    imports = make(polled_config("filled"))
    imports.assets(ASSET)
    imports.changes(GOOD)
    row = connection.execute(
        "select change.status_profile, feed.status_profile from raw.status_change as change"
        " inner join raw.feed as feed using (feed_key) where cpo_id = 'filled'"
    ).fetchone()
    assert row == ("history", "ocpi_2_2_1")


def test_a_month_of_many_changes_is_imported_in_chunks(imports: Importer, capsys: pytest.CaptureFixture[str]) -> None:
    records = 300_000
    start = datetime(2026, 10, 1, tzinfo=UTC)
    lines = ["evse_id,status,observed_at"]
    lines += [
        f"{'E9' if number % 1_000 == 0 else 'E1'},W{number % 7},{start + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}"
        for number in range(records)
    ]
    path = imports.write_bytes("changes.csv.gz", gzip.compress("\n".join(lines).encode(), 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    written = imports(changes=path).written
    took = time.perf_counter() - began
    with capsys.disabled():
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"\n{records} changes in {took:.1f} s: {records / took:,.0f} a second; {grown:.0f} MB")
    assert written == Written(changes=records - 300, quarantined=300)
    # Numbers run on over the chunks.
    assert [record for record, _, _ in imports.quarantined()] == [
        f"record {number + 1}" for number in range(0, records, 1_000)
    ]


# Hand-over folders


def hand_over(imports: Importer, name: str, *rows: list[str]) -> Path:
    folder = imports.folder / imports.config.cpo_id / name
    folder.mkdir(parents=True)
    lines = "".join(",".join(row) + "\n" for row in [CHANGES, *rows])
    (folder / "changes.csv").write_text(lines, encoding="utf-8")
    return folder


def take_in(imports: Importer) -> tuple[list[Imported], list[str]]:
    said: list[str] = []
    return import_waiting(imports.connection, imports.config, imports.folder, NOW, said.append), said


def test_a_hand_over_is_imported_once_and_again_when_it_changes(imports: Importer) -> None:
    folder = hand_over(imports, "2026-10", GOOD)
    (imports.folder / imports.config.cpo_id / "nothing here").mkdir()
    (imports.folder / imports.config.cpo_id / "no_folder.csv").write_text("x", encoding="utf-8")
    done, _ = take_in(imports)
    assert [imported.written for imported in done] == [Written(changes=1)]
    receipt = json.loads((folder / "imported.json").read_text(encoding="utf-8"))
    assert set(receipt["sha256"]) == {"changes.csv"}
    assert sorted(path.name for path in folder.iterdir()) == ["changes.csv", "imported.json"]

    assert take_in(imports) == ([], ["2026-10: imported before"])

    with (folder / "changes.csv").open("a", encoding="utf-8") as file:
        file.write("E1,blocked,2026-10-06T00:00:00Z\n")
    done, _ = take_in(imports)
    assert [imported.written for imported in done] == [Written(changes=1)]
    assert take_in(imports) == ([], ["2026-10: imported before"])


def test_a_bad_hand_over_is_named_and_does_not_keep_others_waiting(imports: Importer) -> None:
    two = hand_over(imports, "a two of a kind", GOOD)
    (two / "changes.parquet").write_bytes(b"")
    hand_over(imports, "b good", ["E1", "blocked", "2026-10-06T00:00:00Z"])
    bad = hand_over(imports, "c no table")
    (bad / "changes.csv").write_text("<html>", encoding="utf-8")
    hand_over(imports, "d good", ["E1", "reserved", "2026-10-07T00:00:00Z"])
    with pytest.raises(HistoryFileError) as raised:
        take_in(imports)
    first, second = str(raised.value).splitlines()
    assert "several files named changes: changes.csv, changes.parquet" in first
    assert "c no table" in second
    assert "column evse_id, status, observed_at is missing" in second
    assert [word for _, _, word in imports.stored()] == ["blocked", "reserved"]
    receipts = sorted(path.parent.name for path in imports.folder.glob("*/*/imported.json"))
    assert receipts == ["b good", "d good"]


def test_a_cpo_without_an_inbox_has_nothing_waiting(imports: Importer) -> None:
    assert take_in(imports) == ([], [])


def test_a_file_of_another_name_in_a_hand_over_is_refused_by_name(module_warehouse: str, tmp_path: Path) -> None:
    folder = tmp_path / "wattle_misspelt" / "2026-10"
    folder.mkdir(parents=True)
    (folder / "change.csv").write_text("evse_id,status,observed_at\n", encoding="utf-8")
    config = CpoConfig.model_validate(
        {"cpo_id": "wattle_misspelt", "name": "Wattle", "feed": {"kind": "history", "liveness_seconds": 300}}
    )
    with connect(Role.INGEST) as connection, pytest.raises(HistoryFileError, match=r"change\.csv"):
        import_waiting(connection, config, tmp_path, datetime.now(UTC), lambda line: None)
