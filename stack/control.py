"""What the commands do: bring everything up on this machine, watch, take it down, remove it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

from stack.databases import (
    ensure_airflow_database,
    ensure_warehouse,
    migrate,
    url_without_password,
    warehouse_is_elsewhere,
    warehouse_server,
)
from stack.machine import MachineError, environment_of, migrate_airflow, place_here, secret_values
from stack.postgres import EmbeddedPostgres
from stack.processes import Place, Process, processes
from stack.supervisor import Supervisor, record, recorded_pid, stop_recorded
from warehouse.connection import REPOSITORY, Role, var_dir, warehouse_url

SUPERVISOR = "supervisor"
# Stopping five processes one after the other, each with its time to end, and Postgres.
DOWN_SECONDS = 120.0

Say = Callable[[str], None]


class AlreadyRunningError(RuntimeError):
    """Another `up` or `demo` runs in this checkout."""


def run_dir() -> Path:
    """Folder of pid files and locks."""
    return var_dir() / "run"


def log_dir() -> Path:
    """Folder of the processes' logs."""
    return var_dir() / "log"


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the right to run everything in this checkout. Raises ``AlreadyRunningError``."""
    run_dir().mkdir(parents=True, exist_ok=True)
    with (run_dir() / "supervisor.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError("it is already running in this checkout: `make down` stops it") from None
        record(SUPERVISOR, os.getpid(), run_dir())
        try:
            yield
        finally:
            (run_dir() / f"{SUPERVISOR}.json").unlink(missing_ok=True)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us like Ctrl-C does, with everything stopped in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.getsignal(number)
        # Under nohup a closed terminal is meant to be ignored; a shell's background job ignores SIGINT.
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def not_to_be_interrupted() -> Iterator[None]:
    """A second Ctrl-C while things are being stopped does not leave half of them running."""
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_database(say: Say) -> EmbeddedPostgres | None:
    """Start and migrate the warehouse; None when a setting names another Postgres, which is then only migrated."""
    if warehouse_is_elsewhere():
        migrate()
        say("the warehouse named by the environment is migrated")
        return None
    server = warehouse_server()
    server.start()
    say(f"Postgres answers on 127.0.0.1:{server.port}")
    ensure_warehouse(server)
    say("the warehouse is migrated")
    return server


def warehouse_address(role: Role) -> str:
    """URL of the warehouse to show: it holds no password."""
    if warehouse_is_elsewhere():
        return warehouse_url(role).set(drivername="postgresql").render_as_string(hide_password=True)
    return url_without_password(warehouse_server(), role)


@contextlib.contextmanager
def everything(
    say: Say,
    *,
    prepare: Callable[[], None] | None = None,
    dags_are_paused: bool = False,
    dags: Path | None = None,
    options: Mapping[str, str] | None = None,
    simulator_arguments: tuple[str, ...] = (),
    more_tokens: tuple[str, ...] = (),
) -> Iterator[tuple[Place, Supervisor]]:
    """Run Postgres and all processes for the length of the block, then stop all of it.

    ``prepare`` is called when the warehouse is there and before the processes start.
    Raises ``AlreadyRunningError``, ``PostgresError``, ``MigrationError``, ``MachineError`` or ``SupervisorError``.
    """
    with only_one(), ended_by_signals():
        # A killed run may have left processes that hold our ports.
        stop_leftovers(say)
        server = warehouse_server()
        # A Postgres that `make db` left running stays.
        stays = server.folder.exists() and server.is_running()
        supervisor: Supervisor | None = None
        try:
            start_database(say)
            server.start()
            ensure_airflow_database(server)
            if prepare is not None:
                prepare()
            place = place_here(
                dags_are_paused=dags_are_paused,
                dags=dags,
                options=options,
                simulator_arguments=simulator_arguments,
                more_tokens=more_tokens,
            )
            if not Path(place.dags).is_dir():
                raise MachineError(f"there is no folder of DAGs: {place.dags}")
            if migrate_airflow(place, server):
                say("Airflow's metadata is migrated")
            secrets = secret_values(server, place.tokens)
            supervisor = Supervisor(
                processes=processes(place),
                environment=lambda process: environment_of(process, secrets),
                run_dir=run_dir(),
                log_dir=log_dir(),
                folder=REPOSITORY,
                say=say,
            )
            say("starting " + ", ".join(process.name for process in supervisor.processes))
            supervisor.start()
            yield place, supervisor
        finally:
            with not_to_be_interrupted():
                if supervisor is not None:
                    supervisor.stop()
                if stays:
                    say("all stopped but Postgres, which was there before (`make down` stops it)")
                else:
                    server.stop()
                    say("all stopped")


def up(say: Say, *, dags: Path | None = None) -> None:
    """Run everything until Ctrl-C or `down`."""
    server = warehouse_server()
    with contextlib.suppress(KeyboardInterrupt), everything(say, dags=dags) as (place, supervisor):
        say("everything is up")
        say(f"  Airflow    {place.public_api_url}")
        say(f"  simulator  {place.simulator_url}")
        say(f"  receiver   {place.receiver_url}/docs")
        say(f"  logs       {log_dir()}")
        if warehouse_is_elsewhere():
            say(f"  warehouse  {warehouse_address(Role.ANALYST)}")
        else:
            say(f"  warehouse  {server.binary('psql')} '{warehouse_address(Role.ANALYST)}'")
        say("Ctrl-C stops it, and so does `make down` in another terminal")
        supervisor.watch(lambda: False)


def stop_leftovers(say: Say) -> None:
    """Stop processes of a run whose supervisor was killed."""
    for process in sorted(_all_processes(), key=lambda one: one.stop_order):
        stop_recorded(process.name, run_dir(), say)


def down(say: Say) -> None:
    """Stop what runs in this checkout, whichever terminal started it."""
    supervisor = recorded_pid(SUPERVISOR, run_dir())
    stopped = supervisor is not None
    if supervisor is not None and supervisor != os.getpid():
        say("asking the running `up` or `demo` to stop")
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_SECONDS
        while recorded_pid(SUPERVISOR, run_dir()) is not None:
            if time.monotonic() > deadline:
                say("it did not end in time: stopping its processes one by one")
                break
            time.sleep(0.1)
    for process in _all_processes():
        stopped = stopped or recorded_pid(process.name, run_dir()) is not None
    stop_leftovers(say)
    server = warehouse_server()
    if server.folder.exists() and server.is_running():
        stopped = True
        server.stop()
        say("Postgres stopped")
    if not stopped:
        say("nothing is running")


def clean(say: Say) -> None:
    """Stop everything and remove all state, the folder outside the checkout too."""
    down(say)
    warehouse_server().remove()
    # Servers of tests that were killed.
    for passwords in list((var_dir() / "test").rglob("passwords")):
        EmbeddedPostgres(passwords.parent).remove()
    if var_dir().exists():
        shutil.rmtree(var_dir())
    say(f"removed {var_dir()}")


def status(say: Say) -> bool:
    """Say what runs; False when not everything does."""
    server = warehouse_server()
    running = {"postgres": server.pid() if server.folder.exists() else None}
    running |= {process.name: recorded_pid(process.name, run_dir()) for process in _all_processes()}
    for name, pid in running.items():
        say(f"{name:14} {f'runs (pid {pid})' if pid else 'is not running'}")
    return all(running.values())


def _all_processes() -> tuple[Process, ...]:
    """The list, for names and stop order only: its addresses do not matter."""
    nowhere = Path()
    return processes(
        Place(
            python="python",
            checkout=nowhere,
            var=nowhere,
            dags=nowhere,
            listen_host="",
            simulator_host="",
            simulator_port=0,
            receiver_host="",
            receiver_port=0,
            public_receiver_url="",
            api_host="",
            api_port=0,
            public_api_url="",
        )
    )
