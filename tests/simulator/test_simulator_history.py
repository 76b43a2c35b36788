"""History files: their form, their bytes, and the faults as a reader of the files sees them."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from simulator.__main__ import main
from simulator.faults import Effect, faults_of_month
from simulator.history import emit_month
from simulator.months import Month
from simulator.world import CPOS, build_world

WORLD = build_world()
OCTOBER = Month(2026, 10)
OCPI_STATUSES = {
    "AVAILABLE",
    "BLOCKED",
    "CHARGING",
    "INOPERATIVE",
    "OUTOFORDER",
    "PLANNED",
    "REMOVED",
    "RESERVED",
    "UNKNOWN",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("history")
    assert len(emit_month(WORLD, OCTOBER, out)) == 9
    return out


def read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def instant(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def test_the_same_seed_gives_the_same_bytes_in_another_process(files: Path, tmp_path: Path) -> None:
    for hash_seed, seed, is_same in (("1", "7", True), ("2", "7", True), ("1", "8", False)):
        out = tmp_path / f"{hash_seed}-{seed}"
        arguments = ["emit-history", "--month", "2026-10", "--out", str(out), "--seed", seed]
        done = subprocess.run(
            [sys.executable, "-m", "simulator", *arguments],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(done.stdout.splitlines()) == 9
        for path in sorted(files.rglob("changes.csv.gz")):
            same = (out / path.relative_to(files)).read_bytes() == path.read_bytes()
            assert same is is_same, path
        if is_same:
            written = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
            assert written == sorted(path.relative_to(files) for path in files.rglob("*") if path.is_file())
            for name in written:
                assert (out / name).read_bytes() == (files / name).read_bytes()


def test_columns_and_words_are_those_agreed(files: Path) -> None:
    polled, stream = {"contact_at", "is_complete"}, {"contact_from", "contact_until"}
    for cpo in CPOS:
        folder = files / cpo.cpo_id / "2026-10"
        assets, changes = read(folder / "assets.csv.gz"), read(folder / "changes.csv.gz")
        required = (
            "site_id, site_name, address, suburb, postcode, state, latitude, longitude, time_zone, "
            "charger_id, evse_id, connector_id, connector_standard, power_kw"
        )
        assert set(assets[0]) == {
            *required.split(", "),
            "valid_from",
            "commissioned_on",
            "emi3_id",
            "country",
        }
        assert set(changes[0]) == {"evse_id", "status", "observed_at"}
        assert set(read(folder / "contact.csv.gz")[0]) == (stream if cpo.cpo_id == "tidewater" else polled)
        words = {row["status"] for row in changes}
        if cpo.cpo_id == "tidewater":
            assert words == {status.lower() for status in OCPI_STATUSES - {"OUTOFORDER"}} | {
                "out_of_order",
                "finishing",
                "unavailable",
            }
        else:
            assert words == OCPI_STATUSES - ({"PLANNED"} if cpo.cpo_id == "mallee" else {"REMOVED"}) | {"missing"}
        assert {row["evse_id"] for row in changes} == {row["evse_id"] for row in assets}
        assert len({(row["evse_id"], row["observed_at"]) for row in changes}) == len(changes)
        assert len({(row["evse_id"], row["connector_id"]) for row in assets}) == len(assets)


def test_awkward_names_come_through(files: Path) -> None:
    names = {row["site_name"] for row in read(files / "banksia" / "2026-10" / "assets.csv.gz")}
    assert {'The "Drover\'s Rest" Car Park', "Lighthouse Road, Upper Deck", "Café Niño Plaza"} <= names


def test_polls_come_each_minute_but_for_the_gaps(files: Path) -> None:
    for cpo_id, second, silences in (
        ("banksia", 7, {240, 300, 360, 32460}),
        # Two clock-change gaps: the first Sunday of November is its first day.
        ("mallee", 38, {240, 300, 360, 3660, 9720, 12780, 16380}),
    ):
        rows = read(files / cpo_id / "2026-10" / "contact.csv.gz")
        times = [instant(row["contact_at"]) for row in rows]
        assert {at % 60 for at in times} == {second}
        assert {b - a for a, b in itertools.pairwise(times)} - {60} == silences
        incomplete = sum(row["is_complete"] == "false" for row in rows)
        assert incomplete == (35 if cpo_id == "mallee" else 0)


def test_what_nobody_saw_is_in_no_file(files: Path) -> None:
    fault = next(fault for fault in faults_of_month(OCTOBER) if fault.name == "outage_between_polls")
    uid = WORLD.by_emi3[fault.emi3_id or ""].uid
    seen = [
        row
        for row in read(files / "banksia" / "2026-10" / "changes.csv.gz")
        if row["evse_id"] == uid and row["status"] == "OUTOFORDER"
        if abs(instant(row["observed_at"]) - fault.span.start) < 600
    ]
    assert seen == []


def test_an_absent_evse_is_marked_and_its_return_too(files: Path) -> None:
    faults = [fault for fault in faults_of_month(OCTOBER) if fault.effect is Effect.ABSENT]
    assert {fault.name for fault in faults} == {"absent_for_hours", "absent_over_midnight"}
    for fault in faults:
        uid = WORLD.by_emi3[fault.emi3_id or ""].uid
        rows = [
            (instant(row["observed_at"]), row["status"])
            for row in read(files / fault.cpo_id / "2026-10" / "changes.csv.gz")
            if row["evse_id"] == uid
        ]
        marked = [index for index, (_, status) in enumerate(rows) if status == "missing"]
        assert len(marked) == 1
        assert 0 <= rows[marked[0]][0] - fault.span.start < 60
        assert 0 <= rows[marked[0] + 1][0] - fault.span.end < 60


def test_the_stream_tells_all_when_it_is_back_but_not_after_a_silent_return(files: Path) -> None:
    folder = files / "tidewater" / "2026-10"
    told: dict[int, int] = {}
    for row in read(folder / "changes.csv.gz"):
        told[instant(row["observed_at"])] = told.get(instant(row["observed_at"]), 0) + 1
    stretches = read(folder / "contact.csv.gz")
    counts = [told.get(instant(row["contact_from"]), 0) for row in stretches]
    silent = {
        fault.span.end
        for fault in faults_of_month(OCTOBER)
        if fault.effect is Effect.SILENT_RETURN and fault.cpo_id == "tidewater"
    }
    assert len(silent) == 4
    for row, count in zip(stretches, counts, strict=True):
        if instant(row["contact_from"]) in silent:
            assert count <= 1
        else:
            assert count >= 28
    assert len(stretches) == 9


def test_the_files_begin_a_day_before_the_month_and_end_after_it_in_every_zone(files: Path) -> None:
    for cpo in CPOS:
        zones = {site.time_zone for site in WORLD.sites if site.cpo_id == cpo.cpo_id}
        spans = [OCTOBER.span(zone) for zone in zones]
        rows = read(files / cpo.cpo_id / "2026-10" / "contact.csv.gz")
        first = instant(rows[0].get("contact_at") or rows[0]["contact_from"])
        last = instant(rows[-1].get("contact_at") or rows[-1]["contact_until"])
        assert 86_400 <= min(span.start for span in spans) + 60 - first <= 86_460
        assert last >= max(span.end for span in spans) + 5 * 3600


def test_a_shorter_month_of_one_cpo_and_its_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("emit-history", "emit-truth"):
        assert main([command, "--month", "2026-10", "--out", str(tmp_path), "--cpo", "mallee", "--days", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    folder = tmp_path / "mallee" / "2026-10"
    assert {path.name for path in folder.iterdir()} == {
        "assets.csv.gz",
        "changes.csv.gz",
        "contact.csv.gz",
        "truth.csv.gz",
    }
    truth = read(folder / "truth.csv.gz")
    assert {row["local_date"] for row in truth} == {"2026-10-01", "2026-10-02"}
    last = instant(read(folder / "contact.csv.gz")[-1]["contact_at"])
    assert last < Month(2026, 10).span("UTC").start + 3 * 86_400


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["emit-history", "--month", "October", "--out", "x"], "'October' is not a month"),
        (["emit-history", "--month", "2026-10", "--out", "x", "--cpo", "karri"], "invalid choice: 'karri'"),
        (
            ["emit-history", "--month", "2026-10", "--out", "x", "--days", "0"],
            "'0' is not a number above zero",
        ),
        (
            ["serve", "--port", "0", "--replay", "lb=/nowhere.json"],
            "is not NAME=FILE with a file that exists",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("command", ["emit-history", "emit-truth", "serve"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"python -m simulator {command}" in capsys.readouterr().out


def test_the_cpo_files_describe_these_cpos(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingestion.config import HistoryFeed, OcpiPullFeed, load_cpo

    monkeypatch.setenv("SIMULATOR_URL", "http://127.0.0.1:1")
    folder = Path(__file__).parents[2] / "config" / "cpos"
    for cpo in CPOS:
        config = load_cpo(cpo.cpo_id, folder, expand=True)
        assert config.name == cpo.name
        assert config.feed.liveness_seconds == cpo.liveness_seconds
        if cpo.cpo_id == "tidewater":
            assert isinstance(config.feed, HistoryFeed)
            assert config.feed.status_profile == "history"
        else:
            assert isinstance(config.feed, OcpiPullFeed)
            assert config.feed.versions_url == f"http://127.0.0.1:1/{cpo.cpo_id}/ocpi/versions"
            assert config.feed.party == f"{cpo.country_code}*{cpo.party_id}"
            assert config.feed.token_secret == f"{cpo.cpo_id.upper()}_TOKEN"
            assert config.feed.status_profile == cpo.words.value


def test_commissioning_dates_stand_in_the_files(files: Path) -> None:
    rows = read(files / "tidewater" / "2026-10" / "assets.csv.gz")
    dates = {row["commissioned_on"] for row in rows} - {""}
    assert date(2026, 10, 14).isoformat() in dates
    assert date(2025, 7, 1).isoformat() in dates
    assert any(not row["commissioned_on"] for row in rows)
