"""Start a list of processes, watch over them, stop them in order. Only processes we started are ever signalled.

Each process opens a session of its own, so that Ctrl-C reaches nobody but us, and whatever it leaves behind can be found.
A file per process in ``var/run/`` holds its pid and start time, so that another terminal can stop it and so that a
stranger who got the same pid later is left alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from stack.files import read_json, write_private
from stack.health import Health, is_healthy
from stack.identity import identity, session_members
from stack.processes import Process

HEALTHY_SECONDS = 180.0
TERM_SECONDS = 30.0
KILL_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
# A process that ran this long starts anew with the shortest pause.
STEADY_SECONDS = 120.0
POLL_SECONDS = 0.2


class SupervisorError(RuntimeError):
    """A process did not come up or did not go away; the message names its log."""


@dataclass
class _Running:
    """One process we started and look after."""

    process: Process
    child: subprocess.Popen[bytes]
    started_at: datetime
    started: float
    deaths: int = 0
    restart_at: float | None = None
    is_known_healthy: bool = False


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass
class Supervisor:
    """Looks after ``processes``; ``environment`` gives the full environment of each."""

    processes: Sequence[Process]
    environment: Callable[[Process], Mapping[str, str]]
    run_dir: Path
    log_dir: Path
    folder: Path
    say: Callable[[str], None]
    check: Callable[[Health, datetime], bool] = is_healthy
    term_seconds: float = TERM_SECONDS
    healthy_seconds: float = HEALTHY_SECONDS
    first_pause_seconds: float = FIRST_PAUSE_SECONDS
    _running: dict[str, _Running] = field(default_factory=dict)

    def start(self) -> None:
        """Start all in order, then wait until all are healthy. Raises ``SupervisorError``."""
        for process in self.processes:
            # What a killed supervisor left behind.
            stop_recorded(process.name, self.run_dir, self.say, self.term_seconds)
        for process in self.processes:
            self._running[process.name] = self._launch(process)
        self._wait_until_healthy()

    def watch(self, is_over: Callable[[], bool]) -> None:
        """Restart what dies, with a growing pause, until ``is_over()``."""
        while not is_over():
            self.look_after()
            time.sleep(POLL_SECONDS)

    def look_after(self) -> None:
        """One round of ``watch``: notice deaths, restart what is due."""
        now = time.monotonic()
        for name, running in self._running.items():
            if running.restart_at is None:
                code = running.child.poll()
                if code is None:
                    if not running.is_known_healthy and self.check(running.process.health, running.started_at):
                        running.is_known_healthy = True
                        self.say(f"{name} is healthy again")
                    continue
                if now - running.started > STEADY_SECONDS:
                    running.deaths = 0
                pause = min(self.first_pause_seconds * 2**running.deaths, LONGEST_PAUSE_SECONDS)
                running.deaths += 1
                running.restart_at = now + pause
                self.say(f"{name} ended ({_how_it_ended(code)}), restart in {pause:.0f} s; its log: {self._log(name)}")
            elif now >= running.restart_at:
                # Workers of the dead one may still be there.
                stop_recorded(name, self.run_dir, self.say, self.term_seconds)
                deaths = running.deaths
                self._running[name] = self._launch(running.process)
                self._running[name].deaths = deaths
                self.say(f"{name} was restarted")
                # The mapping kept its keys, but the values changed under the loop.
                return

    def stop(self) -> None:
        """Stop all in their order; each gets SIGTERM alone, and after a while its whole session SIGKILL."""
        for process in sorted(self.processes, key=lambda one: one.stop_order):
            running = self._running.pop(process.name, None)
            stop_recorded(process.name, self.run_dir, self.say, self.term_seconds, running.child if running else None)

    def _log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def _launch(self, process: Process) -> _Running:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        started_at = datetime.now(UTC)
        with self._log(process.name).open("ab") as log:
            log.write(f"--- {started_at.isoformat(timespec='seconds')} start\n".encode())
            log.flush()
            child = subprocess.Popen(
                process.command,
                cwd=self.folder,
                env=dict(self.environment(process)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        record(process.name, child.pid, self.run_dir)
        return _Running(process, child, started_at, time.monotonic())

    def _wait_until_healthy(self) -> None:
        waiting = dict(self._running)
        began = time.monotonic()
        while waiting:
            # Those that are healthy already, too: whoever answered in place of a dead one is a stranger.
            for name, running in self._running.items():
                code = running.child.poll()
                if code is not None:
                    raise SupervisorError(
                        f"{name} ended while starting ({_how_it_ended(code)}); the end of its log"
                        f" {self._log(name)}:\n{tail(self._log(name))}"
                    )
            for name, running in list(waiting.items()):
                if self.check(running.process.health, running.started_at) and running.child.poll() is None:
                    running.is_known_healthy = True
                    del waiting[name]
                    self.say(f"{name} is healthy after {time.monotonic() - began:.1f} s")
            if waiting and time.monotonic() - began > self.healthy_seconds:
                names = ", ".join(waiting)
                raise SupervisorError(f"not healthy after {self.healthy_seconds:.0f} s: {names}; logs: {self.log_dir}")
            if waiting:
                time.sleep(POLL_SECONDS)


def record(name: str, pid: int, run_dir: Path) -> None:
    """Note a process that we started, so that ``stop_recorded`` may stop it."""
    write_private(run_dir / f"{name}.json", json.dumps({"pid": pid, "identity": identity(pid)}) + "\n")


def recorded_pid(name: str, run_dir: Path) -> int | None:
    """Pid of the process we started under that name, if that very process still lives."""
    found = read_json(run_dir / f"{name}.json")
    if not found or found["identity"] is None or identity(found["pid"]) != found["identity"]:
        return None
    return int(found["pid"])


def stop_recorded(
    name: str,
    run_dir: Path,
    say: Callable[[str], None],
    term_seconds: float = TERM_SECONDS,
    child: subprocess.Popen[bytes] | None = None,
) -> None:
    """Stop the process noted under ``name`` and what is left of its session; do nothing when there is none.

    ``child`` is its handle when it is our own child: it is then reaped.
    """
    path = run_dir / f"{name}.json"
    found = read_json(path)
    if not found:
        return
    leader = int(found["pid"])

    def is_alive() -> bool:
        if child is not None:
            child.poll()
        return recorded_pid(name, run_dir) is not None

    if is_alive():
        say(f"stopping {name}")
        with suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
        if not _wait(lambda: not is_alive(), term_seconds):
            say(f"{name} did not end within {term_seconds:.0f} s: killing it")
    # Its number now belongs to somebody else: the session is not ours either.
    if is_alive() or identity(leader) is None:
        for pid in session_members(leader):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not _wait(lambda: not is_alive() and not _session_lives(leader), KILL_SECONDS):
            raise SupervisorError(f"{name} (pid {leader}) does not end, not even by SIGKILL")
    path.unlink(missing_ok=True)


def _session_lives(leader: int) -> bool:
    return identity(leader) is None and bool(session_members(leader))


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:]).rstrip()
    except FileNotFoundError:
        return "(no log)"


def _how_it_ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
