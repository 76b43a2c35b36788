"""The benchmark commands run, on small figures, and end with 1 when one of their bounds is broken: how quick they are is theirs to say."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from tests.benchmarks.ingest import ONE_PAGE, Bounds, many_small_feeds, one_large_feed
from tests.benchmarks.push import Sent, is_good
from warehouse.connection import REPOSITORY

ANY = 1e9
"""A bound that nothing breaks, whatever the machine."""
LAX = f"ingest.Bounds({ANY}, {ANY}, {ANY}, {ANY})"
ONE_BROKEN = f"ingest.Bounds({ANY}, {ANY}, {ANY}, core_share=0)"
INGEST = ["--evses", "40", "--feeds", "2", "--minutes", "1"]
PUSH = ["--feeds", "1", "--evses", "8", "--senders", "2", "--seconds", "1"]


def run(name: str, arguments: list[str], bounds: str) -> subprocess.CompletedProcess[str]:
    """A benchmark with bounds of its own."""
    script = f"import sys; from tests.benchmarks import {name}; sys.exit({name}.main({arguments}, {bounds}))"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False
    )


def test_the_benchmark_of_collecting_measures_each_bound_that_it_names() -> None:
    done = run("ingest", INGEST, LAX)
    assert (done.returncode, done.stderr) == (0, "")
    assert "BROKEN" not in done.stdout
    # Two runs with three unchanged polls, two changed ones and the memory, and one of small feeds.
    assert done.stdout.count(" holds") == 2 * (3 + 2 + 1) + 1
    # Forty EVSEs are described, each becomes something once at first and once when all of them change.
    assert "80 asset versions, 40 changes, 1 contacts" in done.stdout
    assert " 0 asset versions, 40 changes, 1 contacts" in done.stdout


def test_it_ends_with_1_when_a_bound_is_broken() -> None:
    done = run("ingest", INGEST, ONE_BROKEN)
    assert (done.returncode, done.stderr) == (1, "")
    assert (done.stdout.count("BROKEN"), done.stdout.count(" holds")) == (1, 12)


@pytest.mark.parametrize(
    ("bounds", "broken"),
    [
        (Bounds(ANY, ANY, ANY, ANY), 0),
        (Bounds(0, ANY, ANY, ANY), 3),
        (Bounds(ANY, 0, ANY, ANY), 2),
        (Bounds(ANY, ANY, 0, ANY), 1),
    ],
)
@pytest.mark.usefixtures("module_warehouse")
def test_each_bound_of_a_large_feed_can_be_broken(
    bounds: Bounds, broken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one_large_feed(8, ONE_PAGE, bounds) == (broken == 0)
    assert capsys.readouterr().out.count("BROKEN") == broken


@pytest.mark.usefixtures("module_warehouse")
@pytest.mark.parametrize("share", [0, ANY])
def test_the_bound_of_small_feeds_can_be_broken(share: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert many_small_feeds(1, 8, 1, Bounds(core_share=share)) == (share == ANY)
    assert capsys.readouterr().out.count("BROKEN") == (share == 0)


@pytest.mark.parametrize(("more", "least", "status"), [([], ANY, 1), (["--kill"], ANY, 0)])
def test_the_benchmark_of_receiving_ends_with_1_when_it_is_too_slow(more: list[str], least: float, status: int) -> None:
    done = run("push", [*PUSH, *more], str(least))
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.count("BROKEN") == status
    assert done.stdout.count(" holds") == 2


@pytest.mark.parametrize(
    ("accepted", "missing", "wall_seconds", "good"),
    [(500, 0, 1.0, True), (499, 0, 1.0, False), (500, 1, 1.0, False), (500, 0, 1.01, False), (0, 0, 1.0, False)],
)
def test_what_was_lost_or_slow_or_never_taken_is_not_good(
    accepted: int, missing: int, wall_seconds: float, good: bool
) -> None:
    one = ("feed0", "loc0/e0", "CHARGING", datetime(2026, 10, 1, tzinfo=UTC))
    sent = Sent(accepted=[one] * accepted, seconds=[0.002] * accepted, wall_seconds=wall_seconds)
    assert is_good(sent, missing, 0.5, 500) == good
    # After a kill it is not asked how quick it was.
    assert is_good(sent, missing, None, 500) == (accepted > 0 and not missing)
