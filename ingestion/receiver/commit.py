"""Durable group commit: what was pushed is answered after it is committed, and many pushes share one transaction per feed.

Handlers `submit` a job and await its answer. One thread with one connection takes whatever waits, writes it feed by feed, and hands out the
answers after each commit.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import psycopg

from ingestion.batch import Batch
from ingestion.config import CpoConfig, OcpiPushFeed
from ingestion.model import Message, reference
from ingestion.writer import Writer
from warehouse.connection import Role, WarehouseNotFoundError, connect

LOG = logging.getLogger("ingestion.receiver")

MOST_WAITING = 5_000
"""Jobs that may wait to be written; the next is turned away."""

MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of bodies that may wait to be written."""

MOST_AT_ONCE = 1_000
"""Jobs of one transaction."""

Place = tuple[str, str]
"""Party and location id, each as of `reference`: where a Location is kept."""
Documents = dict[Place, dict[str, Any]]
"""Locations as they stand in this transaction; an entry is replaced, never changed."""


class UnavailableError(Exception):
    """Nothing was stored and nothing is wrong with what was sent: the same again later."""


class Job(Protocol):
    """One request that is to be written."""

    @property
    def received_at(self) -> datetime: ...

    @property
    def size(self) -> int:
        """Bytes that it holds while it waits."""
        ...

    @property
    def places(self) -> tuple[Place, ...]:
        """Locations that it reads or changes."""
        ...

    @property
    def is_contact(self) -> bool:
        """Whether it shows that the sender speaks to us of its EVSEs."""
        ...

    def take(self, batch: Batch, documents: Documents) -> tuple[Message | None, Any]:
        """What is to be stored, and the answer; runs within the transaction, and again if that fails."""
        ...

    def finish(self, writer: Writer) -> None:
        """What else is to be written in the same transaction, after the messages of all jobs."""
        ...


@dataclass(slots=True)
class _Waiting:
    config: CpoConfig
    job: Job
    future: asyncio.Future[Any]


class Committer:
    """Writes jobs in the order in which they came. ``open_connection`` is called again whenever the connection is lost."""

    def __init__(self, open_connection: Callable[[], psycopg.Connection] = lambda: connect(Role.INGEST)) -> None:
        self._open = open_connection
        self._connection: psycopg.Connection | None = None
        self._writers: dict[str, tuple[CpoConfig, Writer]] = {}
        self._last_spoke: dict[str, datetime] = {}
        self._missed: set[str] = set()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._is_over = False
        self._wake = threading.Condition()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="committer")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that are not being written yet."""
        return len(self._waiting)

    async def submit(self, config: CpoConfig, job: Job) -> Any:
        """Wait until the job is committed; return its answer.

        Raises ``UnavailableError`` when the queue is full or the database does not answer, and whatever else kept it from being written.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        with self._wake:
            if self._is_over:
                raise UnavailableError("the receiver is stopping")
            if len(self._waiting) >= MOST_WAITING or self._bytes + job.size > MOST_WAITING_BYTES:
                self._missed.add(config.cpo_id)
                raise UnavailableError("too much waits to be written")
            self._waiting.append(_Waiting(config, job, future))
            self._bytes += job.size
            self._wake.notify()
        return await future

    async def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._wake:
            self._is_over = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._is_over)
                taken, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                self._bytes -= sum(waiting.job.size for waiting in taken)
            if not taken:
                break
            by_feed: dict[str, list[_Waiting]] = {}
            for waiting in taken:
                by_feed.setdefault(waiting.config.cpo_id, []).append(waiting)
            for group in by_feed.values():
                self._tell(group, self._write(group))
        self._disconnect()

    def _write(self, group: list[_Waiting]) -> list[Any]:
        """Write a feed's jobs at once, or one by one if that fails; an answer or an exception for each."""
        try:
            return self._write_at_once(group[-1].config, [waiting.job for waiting in group])
        except UnavailableError as error:
            self._missed.add(group[0].config.cpo_id)
            return [error] * len(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must be written and its sender told
            if len(group) == 1:
                self._missed.add(group[0].config.cpo_id)
                LOG.error("%s: not written: %s", group[0].config.cpo_id, _named(error))
                return [error]
        return [answer for waiting in group for answer in self._write([waiting])]

    def _write_at_once(self, config: CpoConfig, jobs: list[Job]) -> list[Any]:
        spoke_at = [job.received_at for job in jobs if job.is_contact]
        try:
            writer = self._writer(config)
            with writer.batch() as batch:
                answers = _fill(writer, batch, jobs)
                if spoke_at and self._may_have_missed_some(config, spoke_at[0]):
                    writer.ask_for_full_list(spoke_at[0])
        except (OSError, WarehouseNotFoundError) as error:
            raise UnavailableError("there is no database") from error
        except psycopg.Error as error:
            if self._connection is None or self._connection.broken or self._connection.closed:
                LOG.error("the database is away: %s", _named(error))
                self._disconnect()
                raise UnavailableError("the database does not answer") from error
            raise
        if spoke_at:
            self._last_spoke[config.cpo_id] = spoke_at[-1]
            self._missed.discard(config.cpo_id)
        return answers

    def _may_have_missed_some(self, config: CpoConfig, spoke_at: datetime) -> bool:
        """Senders do not repeat what did not reach us: after a push was turned away, or none came for longer than the liveness, a full list must tell."""
        if not isinstance(config.feed, OcpiPushFeed):
            return False
        last = self._last_spoke.get(config.cpo_id, spoke_at)
        return config.cpo_id in self._missed or spoke_at - last > timedelta(seconds=config.feed.liveness_seconds)

    def _writer(self, config: CpoConfig) -> Writer:
        if self._connection is None:
            self._connection = self._open()
            self._writers.clear()
        known = self._writers.get(config.cpo_id)
        if known is None or known[0] is not config:
            known = self._writers[config.cpo_id] = (config, Writer(self._connection, config))
        return known[1]

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _tell(self, group: list[_Waiting], answers: list[Any]) -> None:
        def resolve() -> None:
            for waiting, answer in zip(group, answers, strict=True):
                # A sender that hung up does not wait any more.
                if waiting.future.done():
                    continue
                if isinstance(answer, Exception):
                    waiting.future.set_exception(answer)
                else:
                    waiting.future.set_result(answer)

        self._loop.call_soon_threadsafe(resolve)


def _fill(writer: Writer, batch: Batch, jobs: list[Job]) -> list[Any]:
    """Write the jobs within the transaction; return their answers."""
    documents = batch.documents(place for job in jobs for place in job.places)
    before = dict(documents)
    messages, answers = [], []
    for job in jobs:
        message, answer = job.take(batch, documents)
        answers.append(answer)
        if message is not None:
            messages.append((message, job.received_at))
    batch.add_messages(messages)
    batch.keep_documents(
        [(*place, document) for place, document in documents.items() if document is not before.get(place)],
        jobs[-1].received_at,
    )
    for job in jobs:
        job.finish(writer)
    return answers


@dataclass(slots=True)
class AskForFullList:
    """Leaves word that a full list is wanted: nobody knows what was not pushed to us."""

    received_at: datetime
    size: int = 0
    places: tuple[Place, ...] = ()
    is_contact: bool = False

    def take(self, batch: Batch, documents: Documents) -> tuple[Message | None, Any]:
        return None, None

    def finish(self, writer: Writer) -> None:
        writer.ask_for_full_list(self.received_at)


def place_of(party: str, location_id: str) -> Place:
    """Where a Location is kept; ``party`` is ``country_code*party_id``."""
    return reference(party), reference(location_id)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
