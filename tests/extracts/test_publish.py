"""A package is written once, whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from expectations.candidate import (
    Candidate,
    CandidateError,
    load_candidate,
    newest_candidate,
    store_candidate,
)
from expectations.gate import Finding, GateRecord
from extracts.locks import Lock
from extracts.publish import Package, PublishError, publish, published
from tests.extract_world import AS_OF, World, edited, set_row, with_header, with_tables
from warehouse.object_store import ObjectStore, ObjectStoreError, open_store

FILES = {f"{level}.{kind}" for level in ("connectors", "chargers", "sites") for kind in ("csv", "parquet")} | {
    "gate_report.html",
    "manifest.json",
}
REPORT = b"<!doctype html><title>report</title>"
R1 = "extracts/nsw_dcceew/2026-10/r1"
R2 = "extracts/nsw_dcceew/2026-10/r2"


class ProcessLock:
    """A lock among threads that says when it is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.on_check: Callable[[], None] = lambda: None

    @contextmanager
    def __call__(self, name: str) -> Iterator[Lock]:
        assert name == "publish extracts/nsw_dcceew/2026-10"
        with self._lock:
            yield self

    def assert_held(self) -> None:
        self.on_check()


class Crash(BaseException):
    """The process ends here."""


class CrashingStore(ObjectStore):
    """Ends the process at the n-th object it is to create: before it is written, or after."""

    def __init__(self, store: ObjectStore, at: int, is_written: bool) -> None:
        self.__dict__.update(store.__dict__)
        self.left, self.is_written = at, is_written

    def create(self, path: str, content: bytes) -> bool:
        self.left -= 1
        if self.left == 0 and not self.is_written:
            raise Crash
        done = super().create(path, content)
        if self.left == 0:
            raise Crash
        return done


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return World().candidate()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store((tmp_path / "a store").as_uri())


def passed(candidate: Candidate, **changes: Any) -> GateRecord:
    record = GateRecord(
        candidate_digest=candidate.header.digest,
        passed=True,
        expectation_count=111,
        report_sha256=hashlib.sha256(REPORT).hexdigest(),
        findings=(),
    )
    return record.model_copy(update=changes)


def publishing(
    candidate: Candidate,
    store: ObjectStore,
    reason: str | None = None,
    locks: ProcessLock | None = None,
    created_at: datetime = AS_OF + timedelta(hours=1),
    gate: GateRecord | None = None,
) -> Package:
    return publish(
        candidate,
        gate or passed(candidate),
        REPORT,
        reason=reason,
        store=store,
        locks=locks or ProcessLock(),
        created_at=created_at,
    )


def contents(store: ObjectStore, folder: str = "extracts") -> dict[str, bytes]:
    return {path: store.get(path) for path in store.paths(folder)}


def later_rows(candidate: Candidate) -> Candidate:
    return with_header(edited(candidate, "sites", set_row(0, suburb="Renamed")), as_of=AS_OF + timedelta(days=1))


def test_a_package_holds_its_files_and_a_manifest_that_is_right(candidate: Candidate, store: ObjectStore) -> None:
    package = publishing(candidate, store)
    assert (package.path, package.revision, package.is_new) == (R1, 1, True)
    found = contents(store)
    assert set(found) == {f"{R1}/{name}" for name in FILES}
    manifest = json.loads(found[f"{R1}/manifest.json"])
    assert manifest == package.manifest
    assert set(manifest["files"]) == FILES - {"manifest.json"}
    for name, entry in manifest["files"].items():
        content = found[f"{R1}/{name}"]
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["size_bytes"] == len(content)
    assert {name: entry.get("row_count") for name, entry in manifest["files"].items()} == {
        **{"connectors.csv": 6, "connectors.parquet": 6, "chargers.csv": 4, "chargers.parquet": 4},
        **{"sites.csv": 3, "sites.parquet": 3, "gate_report.html": None},
    }
    assert manifest["cut_off"] == "2026-11-02T20:05:07Z"
    assert manifest["created_at"] == "2026-11-02T21:05:07Z"
    told = {name: manifest[name] for name in ("schema_version", "recipient_id", "month", "revision", "reason")}
    assert told == {
        **{
            "schema_version": 1,
            "recipient_id": "nsw_dcceew",
            "month": "2026-10",
            "revision": 1,
            "reason": None,
        }
    }
    assert (manifest["rule_set"], manifest["rule_set_version"], manifest["states"]) == (
        "evc_2025",
        1,
        ["NSW"],
    )
    assert manifest["status_profiles"] == {"boltway": "ocpi_2_2_1", "zap_coop": "history, ocpi_2_2_1"}
    assert manifest["gate"] == {"passed": True, "expectation_count": 111, "warnings": []}
    assert len(manifest["known_limits"]) == 4


def test_the_summary_pools_evses_once(candidate: Candidate, store: ObjectStore) -> None:
    summary = publishing(candidate, store).manifest["coverage_summary"]
    days = [(key, statuses) for key, statuses in World().daily.items() if key[0] in (101, 102, 103, 104, 105)]
    in_service = sum(sum(statuses.values()) for _, statuses in days)
    silent = sum(statuses["unknown"] + statuses["missing"] for _, statuses in days)
    down = sum(
        statuses[name] for _, statuses in days for name in ("out_of_order", "blocked", "inoperative", "unavailable")
    )
    total = summary["all"]
    assert (total["evse_count"], total["site_count"]) == (5, 3)
    assert total["in_service_seconds"] == in_service
    assert total["not_known_seconds"] == silent
    assert total["uptime_ratio"] == pytest.approx(1 - down / (in_service - silent), abs=1e-10)
    assert total["uptime_lower_ratio"] == pytest.approx(1 - (down + silent) / in_service, abs=1e-10)
    assert total["uptime_upper_ratio"] == pytest.approx(1 - down / in_service, abs=1e-10)
    assert total["coverage_ratio"] == pytest.approx(1 - silent / in_service, abs=1e-10)
    assert [(each["cpo_id"], each["evse_count"]) for each in summary["by_cpo"]] == [
        ("boltway", 4),
        ("zap_coop", 1),
    ]
    assert sum(each["in_service_seconds"] for each in summary["by_cpo"]) == in_service


def test_csv_survives_quotes_commas_newlines_and_emoji(candidate: Candidate, store: ObjectStore) -> None:
    publishing(candidate, store)
    raw = store.get(f"{R1}/sites.csv")
    assert raw.count(b"\r\n") == 4
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8"), newline="")))
    assert [row["site_name"] for row in rows] == [
        "Harbour, north\nside ⚡",
        "Silver City",
        "<script>alert(1)</script>",
    ]
    assert [row["cpo_name"] for row in rows] == ["Boltway", "Boltway", 'Zap "Co-op", Ltd']
    assert b'"Zap ""Co-op"", Ltd"' in raw
    assert [row["postcode"] for row in rows] == ["2000", "2880", "2898"]


def test_csv_and_parquet_tell_the_same_in_agreed_forms(candidate: Candidate, store: ObjectStore) -> None:
    publishing(candidate, store)
    text = list(csv.DictReader(io.StringIO(store.get(f"{R1}/connectors.csv").decode(), newline="")))
    table = pq.read_table(io.BytesIO(store.get(f"{R1}/connectors.parquet")))
    assert not [name for name in table.column_names if name.endswith("_key")]
    assert list(text[0]) == table.column_names
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["uptime_ratio"] == "decimal128(11, 10)"
    assert types["in_service_from"] == "timestamp[us, tz=UTC]"
    assert types["charging_seconds"] == "int64"
    assert types["charging_minutes"] == "double"
    assert types["local_month"] == "date32[day]"
    typed = table.to_pylist()
    keys = [
        tuple(row[name] for name in ("cpo_id", "site_id", "charger_id", "evse_id", "connector_id")) for row in typed
    ]
    assert keys == sorted(keys)
    assert len(keys) == 6
    for told, row in zip(text, typed, strict=True):
        assert Decimal(told["uptime_ratio"]) == row["uptime_ratio"]
        assert len(told["uptime_ratio"].partition(".")[2]) == 10
        assert told["local_month"] == "2026-10-01"
        assert told["charging_minutes"] == f"{row['charging_seconds'] / 60:.6f}"
        assert told["emi3_id"] == (row["emi3_id"] or "")
        assert datetime.fromisoformat(told["in_service_from"]) == row["in_service_from"]
    assert text[4]["in_service_until"] == "2026-10-20T01:02:03Z"
    assert text[0]["in_service_until"] == ""
    assert text[0]["power_kw"] == "150.000"


def test_the_same_rows_give_the_same_bytes_whenever_they_are_written(candidate: Candidate, tmp_path: Path) -> None:
    one, two = (open_store((tmp_path / name).as_uri()) for name in ("one", "two"))
    publishing(candidate, one)
    publishing(World().candidate(), two, created_at=datetime(2027, 1, 1, tzinfo=UTC))
    first, second = contents(one), contents(two)
    differing = {name for name in first if first[name] != second[name]}
    assert set(first) == set(second)
    assert differing == {f"{R1}/manifest.json"}


def test_a_second_run_writes_nothing_and_says_so(candidate: Candidate, store: ObjectStore) -> None:
    publishing(candidate, store)
    before = contents(store)
    again = publishing(candidate, store)
    assert (again.path, again.is_new) == (R1, False)
    late = publishing(later_rows(candidate), store)
    assert (late.path, late.is_new) == (R1, False)
    assert contents(store) == before


def test_a_revision_needs_a_reason_and_leaves_the_first_as_it_was(candidate: Candidate, store: ObjectStore) -> None:
    publishing(candidate, store)
    before = contents(store)
    second = publishing(later_rows(candidate), store, reason="late data of Boltway")
    assert (second.path, second.revision, second.is_new) == (R2, 2, True)
    assert second.manifest["reason"] == "late data of Boltway"
    after = contents(store)
    assert {path: after[path] for path in before} == before
    assert len(after) == 2 * len(before)
    # Without a reason the last one is what there is; another reason makes another revision, also of the same rows.
    assert publishing(candidate, store).path == R2
    assert publishing(later_rows(candidate), store, reason="asked for again").revision == 3
    assert [package.revision for package in published(store)] == [1, 2, 3]


def test_a_retry_with_the_same_reason_makes_no_third(candidate: Candidate, store: ObjectStore) -> None:
    publishing(candidate, store)
    assert publishing(later_rows(candidate), store, reason="late").revision == 2
    retried = publishing(later_rows(candidate), store, reason=" late ")
    assert (retried.revision, retried.is_new) == (2, False)


def test_an_empty_reason_is_refused(candidate: Candidate, store: ObjectStore) -> None:
    with pytest.raises(PublishError, match="reason"):
        publishing(candidate, store, reason="  ")
    assert contents(store) == {}


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_crash_publishes_nothing_and_a_retry_succeeds(
    candidate: Candidate, store: ObjectStore, at: int, is_written: bool
) -> None:
    with pytest.raises(Crash):
        publishing(candidate, CrashingStore(store, at, is_written))
    assert published(store) == []
    assert len(contents(store)) == at - 1 + is_written
    # The marts have moved on meanwhile: what is left over has other bytes than what is to be written.
    other = later_rows(candidate)
    package = publishing(other, store)
    assert (package.path, package.is_new) == (R1, True)
    assert package.manifest["candidate_id"] == other.header.candidate_id
    assert {path.rpartition("/")[2] for path in contents(store)} == FILES
    for name, entry in package.manifest["files"].items():
        assert hashlib.sha256(store.get(f"{R1}/{name}")).hexdigest() == entry["sha256"]


def test_a_crash_after_the_manifest_is_a_package_that_a_retry_finds(candidate: Candidate, store: ObjectStore) -> None:
    with pytest.raises(Crash):
        publishing(candidate, CrashingStore(store, 8, is_written=True))
    before = contents(store)
    assert len(before) == 8
    assert publishing(candidate, store).is_new is False
    assert contents(store) == before


def test_two_runs_at_once_make_one_package(candidate: Candidate, store: ObjectStore) -> None:
    locks, barrier = ProcessLock(), threading.Barrier(4)
    candidates = [candidate, later_rows(candidate), candidate, later_rows(candidate)]

    def run(each: Candidate) -> Package:
        barrier.wait()
        return publishing(each, store, locks=locks)

    with ThreadPoolExecutor(4) as pool:
        packages = list(pool.map(run, candidates))
    assert sorted(package.is_new for package in packages) == [False, False, False, True]
    assert {package.path for package in packages} == {R1}
    assert len({json.dumps(package.manifest) for package in packages}) == 1
    assert len(contents(store)) == 8


def test_a_run_that_lost_its_lock_stops_before_the_manifest(candidate: Candidate, store: ObjectStore) -> None:
    class LostError(Exception):
        pass

    def lost() -> None:
        raise LostError

    locks = ProcessLock()
    locks.on_check = lost
    with pytest.raises(LostError):
        publishing(candidate, store, locks=locks)
    assert published(store) == []


def test_a_file_of_another_writer_is_not_overwritten(candidate: Candidate, store: ObjectStore) -> None:
    class Intruded(ObjectStore):
        def __init__(self) -> None:
            self.__dict__.update(store.__dict__)

        def create(self, path: str, content: bytes) -> bool:
            store.create(f"{R1}/sites.csv", b"not ours")
            return super().create(path, content)

    with pytest.raises(PublishError, match=r"sites\.csv is already there"):
        publishing(candidate, Intruded())
    assert store.get(f"{R1}/sites.csv") == b"not ours"
    assert published(store) == []


def test_what_the_store_garbled_is_not_published(candidate: Candidate, store: ObjectStore) -> None:
    class Garbling(ObjectStore):
        def __init__(self) -> None:
            self.__dict__.update(store.__dict__)

        def create(self, path: str, content: bytes) -> bool:
            return super().create(path, content[:-1] if path.endswith("chargers.csv") else content)

    with pytest.raises(PublishError, match=r"chargers\.csv does not hold what was written"):
        publishing(candidate, Garbling())
    assert published(store) == []


@pytest.mark.parametrize("changes", [{"passed": False}, {"candidate_digest": "0" * 64}])
def test_only_what_the_gate_passed_is_published(
    candidate: Candidate, store: ObjectStore, changes: dict[str, Any]
) -> None:
    with pytest.raises(PublishError, match="did not pass"):
        publishing(candidate, store, gate=passed(candidate, **changes))
    assert contents(store) == {}


def test_warnings_and_nil_rows_are_told_in_the_manifest(store: ObjectStore) -> None:
    world = World()
    world.daily = {
        key: {"missing": sum(value.values())} if key[0] == 103 else value for key, value in world.daily.items()
    }
    candidate = world.candidate(unplaced_evse_count=2)
    finding = Finding(
        table="evses",
        name="evse_is_mostly_measured",
        severity="warning",
        fact="At least half.",
        fixed_by="CPO",
        passed=False,
        checked_count=5,
        failed_count=1,
        examples=("boltway/S-1/C-2/E-103",),
    )
    manifest = publishing(candidate, store, gate=passed(candidate, findings=(finding,))).manifest
    assert manifest["gate"]["warnings"] == [
        {
            "expectation": "evses.evse_is_mostly_measured",
            "fact": "At least half.",
            "failed_count": 1,
            "checked_count": 5,
            "examples": ["boltway/S-1/C-2/E-103"],
        }
    ]
    assert manifest["known_limits"][-2:] == [
        "Of 1 EVSEs in service nothing was measured; they have a row.",
        "2 EVSEs have no state and are in no extract.",
    ]


# ---- candidates and the store


def test_a_candidate_comes_back_as_it_was_stored(candidate: Candidate, store: ObjectStore) -> None:
    path = store_candidate(candidate, store)
    assert path.startswith("candidates/nsw_dcceew/2026-10/20261102T200507Z-")
    assert load_candidate(path, store) == candidate
    assert store_candidate(World().candidate(), store) == path
    assert newest_candidate("nsw_dcceew", "2026-10", store) == path
    with pytest.raises(CandidateError, match="select one with"):
        newest_candidate("nsw_dcceew", "2026-09", store)


def test_the_newest_candidate_is_the_last_one_stored(candidate: Candidate, store: ObjectStore) -> None:
    store_candidate(later_rows(candidate), store)
    path = store_candidate(candidate, store)
    assert newest_candidate("nsw_dcceew", "2026-10", store) == path


@pytest.mark.parametrize(
    ("name", "message"),
    [("sites.parquet", "was changed after"), ("header.json", "was changed after")],
)
def test_a_candidate_that_was_changed_is_refused(
    candidate: Candidate, store: ObjectStore, name: str, message: str
) -> None:
    path = store_candidate(candidate, store)
    other = with_header(with_tables(candidate, sites=[]), unplaced_evse_count=9)
    other_path = store_candidate(other, store)
    store.overwrite(f"{path}/{name}", store.get(f"{other_path}/{name}"))
    with pytest.raises(CandidateError, match=message):
        load_candidate(path, store)


def test_a_candidate_without_its_header_is_none(candidate: Candidate, store: ObjectStore) -> None:
    path = store_candidate(candidate, store)
    store.delete(f"{path}/header.json")
    with pytest.raises(CandidateError, match="no candidate at"):
        load_candidate(path, store)


def test_a_store_that_cannot_be_reached_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ObjectStoreError, match="object store: cannot"):
        open_store((tmp_path / "file").as_uri()).create("x/y", b"")
    with pytest.raises(ObjectStoreError, match="no scheme"):
        open_store("just/a/folder")
    with pytest.raises(ObjectStoreError, match="gopher://example"):
        open_store("gopher://user:secret@example/x?sig=secret")


def test_the_store_is_below_var_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OBJECT_STORE_URL", raising=False)
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    assert open_store().locate("a/b") == str(tmp_path / "object_store" / "a/b")
    monkeypatch.setenv("OBJECT_STORE_URL", (tmp_path / "else where").as_uri())
    store = open_store()
    assert store.create("a/b", b"1") is True
    assert store.create("a/b", b"2") is False
    assert Path(store.locate("a/b")).read_bytes() == b"1"
