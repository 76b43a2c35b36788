"""What was answered with 2xx is in ``raw``, whatever happens; what cannot be stored is answered so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ingestion.batch import Batch
from ingestion.config import load_cpo
from ingestion.model import Message, Told
from ingestion.receiver import commit
from ingestion.receiver.app import Receiver
from ingestion.receiver.commit import Committer, Documents, Place, UnavailableError
from ingestion.writer import Writer
from stack.postgres import EmbeddedPostgres
from tests.benchmarks.push import Load, fill, lost, send
from tests.feeds import asset, poll
from tests.ingestion.receiver.push_world import (
    Platform,
    ReceiverProcess,
    changes,
    evse,
    issue,
    location,
    patch_of,
    wanted_at,
    write_cpo,
)
from warehouse.connection import Role, connect

T0 = datetime(2026, 10, 1, tzinfo=UTC)


@dataclass
class Say:
    """A job that tells one status, or fails."""

    word: str
    seconds: float = 60
    fails: bool = False
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    size: int = 10
    places: tuple[Place, ...] = ()
    is_contact: bool = True
    taken: int = 0

    def take(self, batch: Batch, documents: Documents) -> tuple[Message, str]:
        self.taken += 1
        if self.fails:
            # Text that no column can hold: the transaction is lost with it.
            batch._connection.execute("select 1 / 0")
        return Message("x", told=(Told("s1/e1", self.word, T0 + timedelta(seconds=self.seconds)),)), self.word

    def finish(self, writer: Writer) -> None:
        pass


@pytest.fixture
def abc_config(warehouse: str, tmp_path: Path) -> Any:
    write_cpo(tmp_path / "cpos", "abc")
    config = load_cpo("abc", tmp_path / "cpos")
    with connect(Role.INGEST) as connection:
        Writer(connection, config).write_poll(poll({"E1": "AVAILABLE"}, (asset("E1"),)), T0, T0)
    return config


@asynccontextmanager
async def committing(open_connection: Callable[[], psycopg.Connection] | None = None) -> AsyncIterator[Committer]:
    committer = Committer(open_connection) if open_connection else Committer()
    try:
        yield committer
    finally:
        await committer.close()


def test_one_job_that_fails_takes_none_with_it(abc_config: Any) -> None:
    async def run() -> list[Any]:
        async with committing() as committer:
            jobs = [Say("CHARGING", 60), Say("BLOCKED", 120, fails=True), Say("RESERVED", 180)]
            found = await asyncio.gather(*(committer.submit(abc_config, job) for job in jobs), return_exceptions=True)
            assert [job.taken for job in jobs] == [2, 2, 1] or [job.taken for job in jobs] == [1, 1, 1]
            return found

    answers = asyncio.run(run())
    assert (answers[0], answers[2]) == ("CHARGING", "RESERVED")
    assert isinstance(answers[1], psycopg.errors.DivisionByZero)
    assert [word for _, _, word in changes("abc")] == ["AVAILABLE", "CHARGING", "RESERVED"]
    # The one that failed is to be asked for.
    assert wanted_at("abc") is not None


def test_an_answer_comes_after_the_commit(abc_config: Any) -> None:
    async def run() -> None:
        async with committing() as committer:
            for number in range(20):
                await committer.submit(abc_config, Say(f"WORD{number}", 60 + number))
                assert changes("abc")[-1][2] == f"WORD{number}"

    asyncio.run(run())


def test_a_full_queue_turns_away_and_a_full_list_is_asked_for_later(
    abc_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "MOST_WAITING", 3)

    async def run() -> list[Any]:
        async with committing() as committer:
            with connect(Role.OWNER) as holder:
                # Nobody can write this feed until we let go.
                row = holder.execute("select feed_key from raw.feed").fetchone()
                assert row is not None
                holder.execute("select pg_advisory_xact_lock(%s, %s)", (0x5752, row[0]))
                first = asyncio.create_task(committer.submit(abc_config, Say("W0")))
                await asyncio.sleep(0)
                while committer.waiting:
                    await asyncio.sleep(0.01)
                tasks = [asyncio.create_task(committer.submit(abc_config, Say(f"W{n}", 60 + n))) for n in range(1, 6)]
                await asyncio.sleep(0)
                assert committer.waiting == 3
                holder.rollback()
            return await asyncio.gather(first, *tasks, return_exceptions=True)

    answers = asyncio.run(run())
    assert answers[:4] == ["W0", "W1", "W2", "W3"]
    assert [type(answer) for answer in answers[4:]] == [UnavailableError, UnavailableError]
    assert wanted_at("abc") is not None


def test_a_large_body_counts_for_the_queue_too(abc_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MOST_WAITING_BYTES", 100)

    async def run() -> None:
        async with committing() as committer:
            with pytest.raises(UnavailableError, match="too much waits"):
                await committer.submit(abc_config, Say("BIG", size=101))
            assert await committer.submit(abc_config, Say("SMALL", size=100)) == "SMALL"

    asyncio.run(run())


def test_after_the_database_was_away_it_is_503_and_then_good_again(
    abc_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path / "cpos"))
    token = issue("abc")
    is_away = False
    opened: list[psycopg.Connection] = []

    def open_connection() -> psycopg.Connection:
        if is_away:
            raise psycopg.OperationalError("connection refused")
        opened.append(connect(Role.INGEST))
        return opened[-1]

    async def run() -> None:
        nonlocal is_away
        app = Receiver(open_connection)
        transport = httpx.ASGITransport(app=app)
        async with (
            app._rest.router.lifespan_context(app._rest),
            httpx.AsyncClient(
                transport=transport, base_url="http://x", headers={"Authorization": f"Token {token}"}
            ) as client,
        ):

            async def patch(seconds: float) -> httpx.Response:
                return await client.patch(
                    "/ocpi/2.2.1/locations/AU/ABC/S1/E1",
                    json=patch_of("CHARGING" if seconds % 2 else "BLOCKED", T0 + timedelta(seconds=seconds)),
                )

            assert (await patch(1)).status_code == 200
            is_away = True
            with connect(Role.OWNER) as owner:
                for connection in opened:
                    owner.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
            answer = await patch(2)
            assert (answer.status_code, answer.json()["status_code"]) == (503, 3000)
            assert answer.headers["retry-after"] == "5"
            deadline = time.monotonic() + 20
            while (await client.get("/health")).status_code != 503:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            is_away = False
            before = wanted_at("abc")
            assert (await patch(4)).status_code == 200
            after = wanted_at("abc")
            assert before is not None
            assert after is not None
            assert after > before
            while (await client.get("/health")).status_code != 200:
                assert time.monotonic() < deadline + 20
                await asyncio.sleep(0.05)

    asyncio.run(run())
    assert [(at, word) for _, at, word in changes("abc")] == [
        (T0, "AVAILABLE"),
        (T0 + timedelta(seconds=1), "CHARGING"),
        (T0 + timedelta(seconds=4), "BLOCKED"),
    ]


def test_what_waits_at_sigterm_is_written(warehouse: str, tmp_path: Path) -> None:
    write_cpo(tmp_path / "cpos", "abc")
    receiver = ReceiverProcess(tmp_path / "cpos", tmp_path / "log")
    with Platform(receiver.url, "abc", issue("abc")) as platform:
        assert platform.put("LOC1", location("LOC1", [evse("E1")])) == (201, 1000)
    receiver.stop()
    assert receiver.process.returncode in (0, -15)
    assert len(changes("abc")) == 1


@pytest.mark.usefixtures("warehouse")
def test_kill_minus_nine_loses_nothing_that_was_answered(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    feeds = ["one", "two"]
    for feed in feeds:
        write_cpo(tmp_path / "cpos", feed)
    tokens = {feed: issue(feed) for feed in feeds}
    receiver = ReceiverProcess(tmp_path / "cpos", tmp_path / "log")
    try:
        fill(receiver, tokens, 40)
        load = Load(receiver.port, tokens, evses_per_feed=40, senders=10, seconds=4)
        sent = send(load, 2, receiver)
        assert sent.broken == 10
        assert sent.refused == 0
        assert len(sent.accepted) > 50
        assert lost(sent) == []
        receiver.start()
        with Platform(receiver.url, "one", tokens["one"]) as platform:
            assert platform.patch("LOC0/E0", patch_of("BLOCKED", datetime.now(UTC))) == (200, 1000)
        assert [word for evse_ref, _, word in changes("one") if evse_ref == "loc0/e0"][-1] == "BLOCKED"
    finally:
        receiver.stop()


def listed(cpo_id: str) -> list[tuple[str, bool]]:
    with connect(Role.INGEST) as connection:
        return connection.execute(
            "select connector_id, is_listed from raw.asset_version inner join raw.feed using (feed_key)"
            " where feed_id = %s order by asset_version_key",
            (cpo_id,),
        ).fetchall()


@pytest.mark.parametrize("is_nested", [False, True])
def test_two_descriptions_in_one_transaction_do_not_mix(abc_config: Any, is_nested: bool) -> None:
    both = Message("x", assets=(asset("E2", "1"), asset("E2", "2")))
    one = Message("x", assets=(asset("E2", "1"),))
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, abc_config)
        if is_nested:
            with writer.batch() as batch:
                batch.add_messages([(both, T0)])
                writer.write_messages([(one, T0 + timedelta(seconds=1))])
        else:
            writer.write_messages([(both, T0), (one, T0 + timedelta(seconds=1))])
    assert listed("abc")[1:] == [("1", True), ("2", True), ("2", False)]


def test_pushes_of_one_second_are_one_contact(abc_config: Any) -> None:
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, abc_config)
        for milliseconds in (100, 200, 900, 1100):
            writer.write_messages([(Message("x"), T0 + timedelta(minutes=5, milliseconds=milliseconds))])
        rows = connection.execute("select contact_from from raw.feed_contact where outcome = 'alive' order by 1")
        assert [at for (at,) in rows] == [T0 + timedelta(minutes=5), T0 + timedelta(minutes=5, seconds=1)]
