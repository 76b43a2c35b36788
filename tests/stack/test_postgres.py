"""The embedded Postgres starts, survives, recovers and is removed without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stack import postgres as module
from stack.identity import identity, session_members, working_in
from stack.postgres import EmbeddedPostgres, PostgresError, port_is_free
from tests.waiting import until
from warehouse.connection import REPOSITORY, var_dir

# Nothing here pulls the plug: what a killed process has written, the kernel keeps.
QUICK = {"fsync": "off"}
AS_ROOT = os.geteuid() == 0
START = "import sys; from pathlib import Path; from stack.postgres import EmbeddedPostgres; EmbeddedPostgres(Path(sys.argv[1]), settings={'fsync': 'off'}).start()"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one server that its account can reach; whatever a test left is removed."""
    parent = var_dir() / "test"
    parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="server-", dir=parent))
    place.chmod(0o711)
    yield place / "postgres"
    EmbeddedPostgres(place / "postgres").remove()
    shutil.rmtree(place)


@pytest.fixture
def server(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder, settings=QUICK)


def one(server: EmbeddedPostgres) -> object:
    return server.execute("select 1")[0][0]


def test_a_started_server_answers_and_a_stopped_one_is_gone(server: EmbeddedPostgres) -> None:
    server.start()
    pid = server.pid()
    assert pid is not None
    assert one(server) == 1
    server.stop()
    assert not server.is_running()
    assert not server.is_ready()
    assert identity(pid) is None
    assert session_members(pid) == []


def test_starting_and_stopping_twice_changes_nothing(server: EmbeddedPostgres) -> None:
    server.start()
    pid = server.pid()
    server.start()
    assert server.pid() == pid
    server.stop()
    server.stop()
    assert not server.is_running()


def test_data_and_port_survive_a_restart(server: EmbeddedPostgres) -> None:
    server.start()
    port = server.port
    server.execute("create table kept as select 42 as answer")
    server.stop()
    server.start()
    assert server.port == port
    assert server.execute("select answer from kept") == [(42,)]


def test_a_committed_row_survives_kill_9_of_the_server(server: EmbeddedPostgres) -> None:
    server.start()
    server.execute("create table kept (answer integer)")
    server.execute("insert into kept values (42)")
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    server.start()
    assert server.pid() not in (None, pid)
    assert server.execute("select answer from kept") == [(42,)]


def test_another_process_can_start_it_after_kill_9_though_the_dead_one_is_not_reaped(
    server: EmbeddedPostgres, folder: Path
) -> None:
    # We are the parent of the first server and do not wait for it: it stays a zombie with its pid.
    server.start()
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: identity(pid) is None)
    subprocess.run([sys.executable, "-c", START, str(folder)], cwd=REPOSITORY, check=True, timeout=60)
    assert one(server) == 1


def test_a_pid_file_with_the_pid_of_a_stranger_is_no_running_server(server: EmbeddedPostgres) -> None:
    server.start()
    pid_file = server.data() / "postmaster.pid"
    content = pid_file.read_text(encoding="utf-8").split("\n", 1)[1]
    server.stop()
    pid_file.write_text(f"{os.getpid()}\n{content}", encoding="utf-8")
    assert not server.is_running()
    # It must neither signal the stranger (this process) nor believe that it is the server.
    server.stop()
    server.start()
    assert one(server) == 1
    assert server.pid() != os.getpid()


def test_it_outlives_the_process_that_started_it(server: EmbeddedPostgres, folder: Path) -> None:
    # The output is captured: a server that held on to it would block this call.
    subprocess.run(
        [sys.executable, "-c", START, str(folder)], cwd=REPOSITORY, check=True, timeout=60, capture_output=True
    )
    assert one(server) == 1


def test_two_starts_at_once_give_one_server(server: EmbeddedPostgres, folder: Path) -> None:
    command = [sys.executable, "-c", START, str(folder)]
    starters = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(2)]
    assert [starter.wait(timeout=60) for starter in starters] == [0, 0]
    pid = server.pid()
    assert pid is not None
    mains = {process for process in working_in(server.data()) if process in session_members(process)}
    leaders = {process for process in mains if Path(f"/proc/{process}/stat").read_text().split()[3] != str(pid)}
    assert leaders == {pid}
    assert one(server) == 1


def test_a_first_start_that_was_cut_off_is_done_again(server: EmbeddedPostgres) -> None:
    half = server.folder / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n", encoding="utf-8")
    server.start()
    assert one(server) == 1
    assert not half.exists()


def test_a_port_that_was_taken_meanwhile_is_replaced(server: EmbeddedPostgres, postgres: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    taken = postgres.port
    (server.folder / "port").write_text(f"{taken}\n", encoding="utf-8")
    server.start()
    assert server.port != taken
    assert one(server) == 1


def test_it_listens_on_the_loopback_address_only_and_on_no_socket(postgres: EmbeddedPostgres) -> None:
    shown = {name: postgres.execute(f"show {name}")[0][0] for name in ("listen_addresses", "unix_socket_directories")}  # type: ignore[arg-type]
    assert shown == {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


def test_it_commits_for_certain_and_sorts_the_same_everywhere(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    assert server.execute("show synchronous_commit") == [("on",)]
    assert server.execute("show fsync") == [("on",)]
    assert server.execute("show timezone") == [("UTC",)]
    assert server.execute("select datlocprovider::text, datlocale from pg_database where datname = 'postgres'") == [
        ("b", "C.UTF-8")
    ]


def test_no_login_works_without_its_password(postgres: EmbeddedPostgres) -> None:
    wrong = postgres.url("postgres").replace(postgres.password("postgres"), "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_passwords_are_for_their_owner_only_and_in_no_command_line_or_log(server: EmbeddedPostgres) -> None:
    server.start()
    server.ensure_login("somebody")
    password_files = [path for path in (server.folder / "passwords").iterdir() if not path.name.startswith(".")]
    assert sorted(path.name for path in password_files) == ["postgres", "somebody"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in password_files} == {0o600}
    pid = server.pid()
    seen = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8") + server.log.read_text(encoding="utf-8")
    assert [path.name for path in password_files if path.read_text(encoding="utf-8") in seen] == []
    # The file that initdb read the first password from.
    assert list(server.folder.glob("initial-password*")) == []


def test_a_database_is_created_once(postgres: EmbeddedPostgres) -> None:
    assert postgres.create_database("made_once")
    assert not postgres.create_database("made_once")
    postgres.drop_database("made_once")
    assert postgres.create_database("made_once")
    postgres.drop_database("made_once")


def test_removing_it_stops_it_and_leaves_nothing(server: EmbeddedPostgres, folder: Path) -> None:
    server.start()
    pid, port = server.pid(), server.port
    assert pid is not None
    server.remove()
    assert identity(pid) is None
    assert port_is_free(port)
    assert not folder.exists()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = EmbeddedPostgres(folder, settings={"shared_buffers": "nonsense"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RETRY_SECONDS", 0.0)
        with pytest.raises(PostgresError, match=r"does not start.*(?s:.*)shared_buffers"):
            server.start()


@pytest.mark.skipif(not AS_ROOT, reason="only root's server runs as another account")
class TestAsRoot:
    def test_the_server_runs_as_an_account_without_rights(self, server: EmbeddedPostgres) -> None:
        server.start()
        account = module.account_for_server()
        assert account is not None
        assert Path(f"/proc/{server.pid()}").stat().st_uid == account.uid != 0

    @pytest.fixture
    def closed(self, folder: Path) -> Iterator[EmbeddedPostgres]:
        """A server whose folder lies below one that only root can enter, as below /root."""
        folder.parent.chmod(0o700)
        server = EmbeddedPostgres(folder, settings=QUICK)
        yield server
        server.remove()

    def test_below_a_closed_folder_it_lives_in_a_place_outside_that_it_names(self, closed: EmbeddedPostgres) -> None:
        said: list[str] = []
        closed = EmbeddedPostgres(closed.folder, settings=QUICK, say=said.append)
        closed.start()
        outside = closed.outside()
        assert outside is not None
        assert not outside.is_relative_to(closed.folder)
        assert [message for message in said if str(outside) in message]
        assert one(closed) == 1
        closed.stop()
        closed.start()
        assert closed.outside() == outside
        closed.remove()
        assert not outside.exists()
        assert not closed.folder.exists()

    def test_it_recovers_from_kill_9_out_there(self, closed: EmbeddedPostgres) -> None:
        closed.start()
        pid = closed.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        closed.start()
        assert one(closed) == 1

    def test_a_folder_outside_without_our_mark_is_never_removed(self, closed: EmbeddedPostgres) -> None:
        closed.start()
        outside = closed.outside()
        assert outside is not None
        closed.stop()
        mark = (outside / "id").read_text(encoding="utf-8")
        (outside / "id").write_text("somebody else's", encoding="utf-8")
        with pytest.raises(PostgresError, match="is not ours"):
            closed.start()
        (outside / "id").write_text(mark, encoding="utf-8")
        closed.remove()
        assert not outside.exists()

    def test_a_folder_that_was_closed_later_is_not_mistaken_for_a_new_one(
        self, server: EmbeddedPostgres, folder: Path
    ) -> None:
        server.start()
        server.stop()
        folder.parent.chmod(0o700)
        with pytest.raises(PostgresError, match="cannot reach"):
            server.start()
        folder.parent.chmod(0o711)
        server.start()
        assert one(server) == 1

    def test_the_account_nobody_will_do_when_there_is_no_postgres(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = module.pwd.getpwnam

        def without_postgres(name: str) -> object:
            if name == "postgres":
                raise KeyError(name)
            return known(name)

        monkeypatch.setattr(module.pwd, "getpwnam", without_postgres)
        server = EmbeddedPostgres(folder, settings=QUICK)
        server.start()
        assert Path(f"/proc/{server.pid()}").stat().st_uid == known("nobody").pw_uid
        assert one(server) == 1
