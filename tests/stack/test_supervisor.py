"""Processes start and stop in order, come back when they die, and no stranger is ever signalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from stack.health import Health, part_is_healthy
from stack.identity import identity, session_members
from stack.processes import Process
from stack.supervisor import Supervisor, SupervisorError, record, recorded_pid, stop_recorded
from tests.waiting import until

# Writes "start NAME" when it begins, then its health file, and "stop NAME" at SIGTERM.
POLITE = """
import pathlib, signal, sys
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def write(what):
    with (folder / "events").open("a") as file:
        file.write(f"{what} {name}\\n")
def end(*_):
    write("stop")
    (folder / name).unlink(missing_ok=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
write("start")
(folder / name).touch()
while True:
    signal.pause()
"""
# Ignores SIGTERM and has a child in its session that does so too.
STUBBORN = """
import os, pathlib, signal, sys
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    (folder / name).touch()
while True:
    signal.pause()
"""
# Leaves a child behind when it ends at SIGTERM.
CARELESS = """
import os, pathlib, signal, sys
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
(folder / name).touch()
while True:
    signal.pause()
"""
FAILING = "import sys; sys.stderr.write('no such table: trouble\\n'); sys.exit(7)"


class Bench:
    """A folder, a supervisor over dummy processes, and what they wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.leaders: set[int] = set()

    def supervisor(self, *scripts: tuple[str, str], term_seconds: float = 10.0) -> Supervisor:
        """One process per (name, script), in this order of start and the reverse order of stop."""
        processes = [
            Process(
                name=name,
                command=(sys.executable, "-S", "-c", script, name, str(self.folder)),
                environment={},
                secrets=(),
                health=Health(name),
                stop_order=-index,
            )
            for index, (name, script) in enumerate(scripts)
        ]
        return Supervisor(
            processes=processes,
            environment=lambda _: {"PATH": os.environ["PATH"]},
            run_dir=self.folder / "run",
            log_dir=self.folder / "log",
            folder=self.folder,
            say=self.said.append,
            check=lambda health, _: (self.folder / health.url).exists(),
            term_seconds=term_seconds,
            healthy_seconds=20.0,
            first_pause_seconds=0.0,
        )

    def pid(self, name: str) -> int:
        found = recorded_pid(name, self.folder / "run")
        assert found is not None
        self.leaders.add(found)
        return found

    def events(self, what: str) -> list[str]:
        path = self.folder / "events"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.startswith(what)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    for record_file in (tmp_path / "run").glob("*.json"):
        found.leaders.add(json.loads(record_file.read_text(encoding="utf-8"))["pid"])
    for leader in found.leaders:
        for pid in session_members(leader):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_all_are_healthy_after_start_and_stop_in_their_order(bench: Bench) -> None:
    supervisor = bench.supervisor(("one", POLITE), ("two", POLITE), ("three", POLITE))
    supervisor.start()
    pids = [bench.pid(name) for name in ("one", "two", "three")]
    assert sorted(bench.events("start")) == ["one", "three", "two"]
    supervisor.stop()
    assert bench.events("stop") == ["three", "two", "one"]
    assert [identity(pid) for pid in pids] == [None, None, None]
    assert list((bench.folder / "run").glob("*.json")) == []


def test_each_runs_in_a_session_of_its_own(bench: Bench) -> None:
    supervisor = bench.supervisor(("one", POLITE), ("two", POLITE))
    supervisor.start()
    for name in ("one", "two"):
        assert session_members(bench.pid(name)) == [bench.pid(name)]
    supervisor.stop()


def test_what_ignores_sigterm_is_killed_with_its_children(bench: Bench) -> None:
    supervisor = bench.supervisor(("rock", STUBBORN), term_seconds=0.2)
    supervisor.start()
    leader = bench.pid("rock")
    assert len(session_members(leader)) == 2
    supervisor.stop()
    assert session_members(leader) == []
    assert any("killing it" in message for message in bench.said)


def test_children_left_behind_are_killed(bench: Bench) -> None:
    supervisor = bench.supervisor(("careless", CARELESS))
    supervisor.start()
    leader = bench.pid("careless")
    assert len(session_members(leader)) == 2
    supervisor.stop()
    assert session_members(leader) == []
    assert not any("killing it" in message for message in bench.said)


def test_a_process_that_died_is_started_again(bench: Bench) -> None:
    supervisor = bench.supervisor(("one", POLITE), ("two", POLITE))
    supervisor.start()
    first, other = bench.pid("one"), bench.pid("two")
    (bench.folder / "one").unlink()
    os.kill(first, signal.SIGKILL)
    until(lambda: identity(first) is None)

    def is_back() -> bool:
        supervisor.look_after()
        return "one is healthy again" in bench.said

    until(is_back)
    assert bench.pid("one") != first
    assert bench.pid("two") == other
    assert [message for message in bench.said if message.startswith("one ended (signal SIGKILL)")]
    supervisor.stop()
    assert bench.events("stop") == ["two", "one"]


def test_the_pause_before_a_restart_grows(bench: Bench) -> None:
    supervisor = bench.supervisor(("one", POLITE))
    supervisor.first_pause_seconds = 0.01
    supervisor.start()

    def died(times: int) -> bool:
        supervisor.look_after()
        found = recorded_pid("one", bench.folder / "run")
        if found is not None:
            os.kill(found, signal.SIGKILL)
        return len([message for message in bench.said if message.startswith("one ended")]) >= times

    until(lambda: died(3))
    running = supervisor._running["one"]
    assert running.deaths == 3
    assert running.restart_at is not None
    supervisor.stop()


def test_what_a_killed_supervisor_left_is_stopped_before_the_next_start(bench: Bench) -> None:
    abandoned = bench.supervisor(("one", POLITE))
    abandoned.start()
    first = bench.pid("one")
    following = bench.supervisor(("one", POLITE))
    following.start()
    assert identity(first) is None
    abandoned._running["one"].child.wait()
    assert bench.pid("one") != first
    following.stop()


def test_workers_of_a_dead_process_are_stopped_before_it_starts_again(bench: Bench) -> None:
    supervisor = bench.supervisor(("careless", CARELESS))
    supervisor.start()
    leader = bench.pid("careless")
    os.kill(leader, signal.SIGKILL)
    until(lambda: identity(leader) is None)
    assert len(session_members(leader)) == 1
    until(lambda: (supervisor.look_after(), "careless was restarted" in bench.said)[1])
    assert session_members(leader) == []
    bench.pid("careless")
    supervisor.stop()


def test_a_process_that_ends_while_starting_is_an_error_with_the_end_of_its_log(bench: Bench) -> None:
    supervisor = bench.supervisor(("one", POLITE), ("bad", FAILING))
    with pytest.raises(SupervisorError, match=r"bad ended while starting \(exit status 7\)(?s:.*)no such table"):
        supervisor.start()
    supervisor.stop()
    assert bench.events("stop") == ["one"]


def test_the_answer_of_a_stranger_does_not_make_a_dead_process_healthy(bench: Bench) -> None:
    # Somebody else answers for "bad", as when two checkouts use one port; "slow" keeps the start waiting.
    (bench.folder / "bad").touch()
    supervisor = bench.supervisor(("bad", FAILING), ("slow", POLITE.replace(".touch()", "")))
    with pytest.raises(SupervisorError, match="bad ended while starting"):
        supervisor.start()
    supervisor.stop()


def test_one_that_never_becomes_healthy_is_an_error(bench: Bench) -> None:
    supervisor = bench.supervisor(("one", POLITE.replace(".touch()", "")))
    supervisor.healthy_seconds = 0.5
    with pytest.raises(SupervisorError, match=r"not healthy after \d s: one"):
        supervisor.start()
    supervisor.stop()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that we did not start through a supervisor."""
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_stranger_with_a_pid_of_ours_is_left_alone(bench: Bench, stranger: subprocess.Popen[bytes]) -> None:
    run_dir = bench.folder / "run"
    record("one", stranger.pid, run_dir)
    path = run_dir / "one.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**found, "identity": "another boot/123"}), encoding="utf-8")
    assert recorded_pid("one", run_dir) is None
    stop_recorded("one", run_dir, bench.said.append, 0.1)
    assert stranger.poll() is None
    assert bench.said == []
    assert not path.exists()


def test_the_same_process_under_its_own_identity_is_stopped(bench: Bench, stranger: subprocess.Popen[bytes]) -> None:
    """The counterpart of the test above: it is the identity that protected the stranger."""
    run_dir = bench.folder / "run"
    record("one", stranger.pid, run_dir)
    stop_recorded("one", run_dir, bench.said.append, 5.0, stranger)
    assert stranger.poll() == -signal.SIGTERM


def test_stopping_what_was_never_started_does_nothing(bench: Bench) -> None:
    stop_recorded("one", bench.folder / "run", bench.said.append)
    bench.supervisor(("one", POLITE)).stop()
    assert bench.said == []


NOW = datetime.fromisoformat("2026-10-31T12:00:00+00:00")
BEFORE = b'{"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "2026-10-31T11:59:59+00:00"}}'
AFTER = b'{"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "2026-10-31T12:00:01Z"}}'
ILL = b'{"scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": "2026-10-31T12:00:01Z"}}'


@pytest.mark.parametrize(
    ("body", "part", "since", "expected"),
    [
        (AFTER, "scheduler", NOW, True),
        (BEFORE, "scheduler", NOW, False),
        (BEFORE, "scheduler", None, True),
        (ILL, "scheduler", NOW, False),
        (AFTER, "dag_processor", NOW, False),
        (b'{"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": null}}', "scheduler", NOW, False),
        (b'{"metadatabase": {"status": "healthy"}}', "metadatabase", NOW, True),
        (b"<html>", "scheduler", NOW, False),
        (b"[]", "scheduler", NOW, False),
    ],
)
def test_a_heartbeat_counts_only_from_after_the_start(
    body: bytes, part: str, since: datetime | None, expected: bool
) -> None:
    assert part_is_healthy(body, part, since) is expected
