"""Listen to one feed for one window of time, writing as it goes.

Windows overlap. A new collector connects at once and keeps what it hears; it writes only when the one before it has given up its turn (or has died: then its
connection to the database is gone, and with it its turn). With each transaction the one that writes leaves a mark, by which the next one knows what of its own
it need not write. So a hand-over loses nothing and stores nothing twice; see `ingestion.stream.mark`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ingestion.batch import Written
from ingestion.collector import Clock, SystemClock
from ingestion.config import CpoConfig, StreamSettings
from ingestion.feeds import Stream, open_stream
from ingestion.mapping import resolve
from ingestion.model import FeedError, Message, Outcome, Poll, Rejected, Told
from ingestion.stream.frames import FrameReader, Said
from ingestion.stream.listener import TICK, Broke, Connected, Event, Heard, Listener, Refused
from ingestion.stream.mark import Mark, written_before
from ingestion.stream.pace import BATCH_MESSAGES, Pace
from ingestion.times import FUTURE_SKEW
from ingestion.writer import Writer
from warehouse.connection import Role, connect
from warehouse.strict_yaml import ConfigError

Report = Callable[[str], None]


@dataclass
class StreamTotals:
    """What one window heard."""

    connections: int = 0
    breaks: int = 0
    refusals: int = 0
    messages: int = 0
    lists: int = 0
    """Snapshots: messages or answers that listed every EVSE."""
    lost_stretches: int = 0
    had_turn: bool = False
    """Whether it was this collector's turn to write at any time."""
    last_refusal: str = ""
    written: Written = field(default_factory=Written)

    def failure(self) -> str | None:
        """Why the window was in vain, if it was."""
        is_vain = self.had_turn and self.refusals and not self.connections
        return f"none of {self.refusals} connections came about; the last: {self.last_refusal}" if is_vain else None

    def __str__(self) -> str:
        if not self.had_turn:
            return "another collector of this feed wrote all the time"
        return (
            f"{self.messages} messages and {self.lists} full lists over {self.connections} connections, {self.breaks} of which broke, "
            f"{self.refusals} refused, {self.lost_stretches} stretches lost; {self.written}"
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A message that was read."""

    at: datetime
    said: tuple[Said, ...]
    event_id: str

    def fingerprints(self) -> list[bytes]:
        return [one for said in self.said for one in said.fingerprints(self.event_id)]


def collect_stream(
    config: CpoConfig,
    *,
    seconds: float,
    report: Report,
    clock: Clock | None = None,
    pace: Pace | None = None,
    open_feed: Callable[[CpoConfig, Callable[[], datetime], Pace], Stream] = open_stream,
) -> StreamTotals:
    """Hold the feed's connection for ``seconds``, connecting again whenever it breaks, and store what it tells. Returns what it heard."""
    if not isinstance(config.feed, StreamSettings):
        raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not a stream")
    clock, pace = clock or SystemClock(), pace or Pace()
    end = clock.now() + timedelta(seconds=seconds)
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, config)
        mark = writer.mark()
        stream = open_feed(config, clock.now, pace)
        listener = Listener(stream.feed, clock.now, pace, mark.event_id if mark else "")
        listener.start()
        try:
            return _Collector(config.feed, writer, stream, listener, clock, pace, report).run(end)
        finally:
            listener.stop()
            stream.close()


class _Collector:
    """Writes what a listener hears, from the moment when it is its turn."""

    def __init__(
        self,
        feed: StreamSettings,
        writer: Writer,
        stream: Stream,
        listener: Listener,
        clock: Clock,
        pace: Pace,
        report: Report,
    ) -> None:
        self._feed, self._writer, self._stream, self._listener = feed, writer, stream, listener
        self._clock, self._pace, self._report = clock, pace, report
        self._reader = FrameReader(feed)
        self.totals = StreamTotals()
        self._reported = replace(self.totals)
        self._reported_at = clock.now()
        self._mark: Mark | None = None
        self._not_before: datetime | None = None
        """What is written from here on was received after what was written before: clocks and threads differ by milliseconds."""
        self._known: dict[str, set[str]] = {}
        self._described_at: datetime | None = None
        """When it was last asked what the EVSEs are."""
        self._again = timedelta(seconds=pace.snapshot_again_seconds)
        self._is_connected = False
        self._stretch_from = clock.now()
        self._list_at: datetime | None = None
        """When the last full list on this connection was true."""
        self._gap: tuple[datetime, datetime] | None = None
        """A break for which a full list may still make up, until ``_list_due``."""
        self._list_due: datetime | None = None

    def run(self, end: datetime) -> StreamTotals:
        """Wait for the turn, write until ``end``, and hand over."""
        has_waited = False
        while not self._writer.take_turn():
            if not has_waited:
                self._report(f"{self._clock.now():%H:%M:%S} another collector writes: listening until it is done")
                has_waited = True
            self._listener.wait(self._pace.turn_seconds)
            self._raise_crash()
            if self._clock.now() >= end:
                return self.totals
        if has_waited:
            self._report(f"{self._clock.now():%H:%M:%S} taking over")
        self.totals.had_turn = True
        self._take_over()
        while (rest := (end - self._clock.now()).total_seconds()) > 0:
            self._write(self._listener.buffer.take(min(self._pace.commit_seconds, rest), BATCH_MESSAGES))
            self._look_after(self._clock.now())
            self._raise_crash()
        self._hand_over()
        return self.totals

    # Handing over

    def _take_over(self) -> None:
        """Write what was heard while another collector wrote, but for what it has written."""
        self._known = self._writer.evses_by_id()
        mark = self._mark = self._writer.mark()
        if mark is None:
            return
        if mark.things:
            # What the other one has received last may still be on its way to this one.
            last_at = mark.things[-1][1]
            last = last_at + timedelta(seconds=self._pace.handover_seconds) - self._clock.now()
            self._listener.wait(min(max(last.total_seconds(), 0.0), self._pace.handover_seconds))
            self._not_before = last_at + 2 * TICK
        events = self._listener.buffer.take(0, sys.maxsize)
        covered = [
            position
            for position, event in enumerate(events)
            if isinstance(event, Connected) and event.at <= mark.held_until
        ]
        # What came over earlier connections was written by the other one, which was covered until after the last of these began.
        self._write(self._without_written(mark, events[covered[-1] :]) if covered else events)

    def _without_written(self, mark: Mark, events: list[Event]) -> list[Event | _Entry]:
        """The events of a connection that ``mark`` covers from its beginning, without what is written.

        A full list that has come over it is carried forward by what was told since, and stored as what holds at the mark.
        """
        connected = events[0]
        assert isinstance(connected, Connected)
        length = next(
            (place for place, event in enumerate(events) if place and not isinstance(event, Heard)), len(events)
        )
        entries = [self._read(event) for event in events[1:length] if isinstance(event, Heard)]
        things = [(one, entry.at) for entry in entries for one in entry.fingerprints()]
        since = None if connected.resumed else connected.at
        count = written_before(mark.things, things, since, timedelta(seconds=self._pace.handover_seconds))
        listed: Poll | None = None
        kept: list[Event | _Entry] = [connected]
        for entry in entries:
            rest = []
            for said in entry.said:
                told = len(said.fingerprints(entry.event_id))
                if count == 0:
                    rest.append(said)
                    continue
                if said.list_sha256 is not None:
                    listed = self._full_list(said)
                elif listed is not None:
                    listed = self._carried(listed, said, min(told, count))
                if told > count:
                    rest.append(said.without_first(count))
                count -= min(told, count)
            if rest:
                kept.append(replace(entry, said=tuple(rest)))
        if listed is not None:
            self._write_list(listed, mark.things[-1][1] + TICK)
        return kept + list(events[length:])

    def _carried(self, listed: Poll, said: Said, count: int) -> Poll:
        """The list as it would read after the first ``count`` things of ``said``."""
        statuses = dict(listed.statuses)
        for told in self._message(said).told[:count]:
            before = statuses.get(told.evse_ref, ("", None))[1]
            if told.observed_at is None or before is None or told.observed_at >= before:
                statuses[told.evse_ref] = (told.status_word, told.observed_at)
        return replace(listed, statuses=statuses)

    def _hand_over(self) -> None:
        """Write what was received to the end, and let the next one write."""
        now = self._clock.now()
        self._listener.stop()
        self._raise_crash()
        self._write(self._listener.buffer.take(0, sys.maxsize))
        if self._gap is not None:
            self._lose()
        if self._is_connected:
            self._hold(self._stream.feed.held_until(now))
        self._writer.give_up_turn()
        self._say(now)

    # Writing

    def _write(self, events: Iterable[Event | _Entry]) -> None:
        """Store what was heard, in order: as many messages as possible in one transaction."""
        waiting: list[_Entry] = []
        for event in events:
            if isinstance(event, Heard):
                event = self._read(event)
            if isinstance(event, _Entry):
                if self._not_before is not None:
                    event = replace(event, at=max(event.at, self._not_before))
                self._not_before = event.at + TICK
                waiting.append(event)
                # A description is there for the messages after it, and a list stands alone.
                if any(said.list_sha256 or said.described.assets for said in event.said):
                    self._write_messages(waiting)
                    waiting = []
                    for said in event.said:
                        if said.list_sha256 is not None:
                            self._write_list(self._full_list(said), event.at)
                continue
            self._write_messages(waiting)
            waiting = []
            if isinstance(event, Connected):
                self._begin(event)
            elif isinstance(event, Broke):
                self._break(event)
            elif isinstance(event, Refused):
                self.totals.refusals += 1
                self.totals.last_refusal = event.reason
                self.totals.written += self._writer.write_failure(event.asked_at, event.at, event.reason)
                self._report(f"{event.at:%H:%M:%S} no connection: {event.reason}")
        self._write_messages(waiting)

    def _read(self, heard: Heard) -> _Entry:
        return _Entry(heard.at, tuple(self._reader.read(heard.frame.data)), heard.frame.event_id)

    def _write_messages(self, entries: list[_Entry]) -> None:
        if not entries:
            return
        if self._stream.describe is not None and any(
            resolve(said.statuses, self._known)[1] for entry in entries for said in entry.said
        ):
            self._describe()
        assert self._mark is not None
        self.totals.messages += len(entries)
        mark = self._mark
        messages = []
        for entry in entries:
            mark = mark.after(entry.fingerprints(), entry.at, entry.event_id)
            messages += [(self._message(said), entry.at) for said in entry.said if said.list_sha256 is None]
        messages = [one for one in messages if one[0].told or one[0].assets or one[0].rejected]
        self._mark = mark
        if not messages:
            return
        with self._writer.batch() as batch:
            batch.add_messages(messages, is_contact=False)
            batch.keep_mark(mark)
        self.totals.written += batch.written
        if any(message.assets for message, _ in messages):
            self._known = self._writer.evses_by_id()

    def _message(self, said: Said) -> Message:
        """What was said, of EVSEs by their identity."""
        found, unknown = resolve(said.statuses, self._known)
        if unknown and self._list_due is None and self._stream.snapshot is not None:
            # An EVSE that nobody has described: it may stand in the list by now.
            self._list_due = self._clock.now() + timedelta(seconds=self._pace.snapshot_again_seconds)
        told = [Told(ref, word, updated_at) for ref, (word, updated_at) in said.described.statuses.items()]
        told += [Told(ref, status.word, status.updated_at, status.payload) for ref, status in found]
        return Message(
            self._reader.source,
            said.described.assets,
            tuple(self._dated(one) for one in told),
            (*said.described.rejected, *said.statuses.rejected, *unknown),
        )

    def _dated(self, told: Told) -> Told:
        """What is told after a full list is newer than the list, also when the source's clock is behind ours: then it is true since its receipt."""
        if told.observed_at is None or self._list_at is None:
            return told
        is_skewed = self._list_at - FUTURE_SKEW <= told.observed_at < self._list_at
        return replace(told, observed_at=None) if is_skewed else told

    def _full_list(self, said: Said) -> Poll:
        found, unknown = resolve(said.statuses, self._known)
        statuses = {**said.described.statuses, **{ref: (one.word, one.updated_at) for ref, one in found}}
        rejected = (*said.described.rejected, *said.statuses.rejected, *unknown)
        count = said.described.evse_count or said.statuses.count
        return Poll(
            said.list_sha256, assets=said.described.assets, statuses=statuses, rejected=rejected, evse_count=count
        )

    def _write_list(self, poll: Poll, at: datetime) -> None:
        """Store a list of every EVSE as what held at ``at``; one without any, or far too short, is no such list."""
        try:
            if not poll.statuses:
                raise FeedError("a list of every EVSE in which none can be read")
            written = self._writer.write_poll(poll, at, self._clock.now())
        except FeedError as error:
            source = self._reader.source
            rejected = (*poll.rejected, Rejected(source, "list", None, str(error), ""))
            self.totals.written += self._writer.write_messages(
                [(Message(source, rejected=rejected), at)], is_contact=False
            )
            self._report(f"{at:%H:%M:%S} {error}")
            return
        assert written is not None
        self.totals.lists += 1
        self.totals.written += written
        self._known = self._writer.evses_by_id()
        self._list_at, self._gap, self._list_due = at, None, None
        self._report(f"{at:%H:%M:%S} full list of {len(poll.statuses)} EVSEs: {written}")

    # The connection

    def _begin(self, connected: Connected) -> None:
        self.totals.connections += 1
        self._is_connected = True
        self._list_at = None
        at = connected.at
        if self._mark is None:
            self._mark = Mark(at)
        covered = self._mark.held_until
        self._report(f"{at:%H:%M:%S} connected" + (", going on where it broke" if connected.resumed else ""))
        self._stretch_from = at
        if at > covered and not connected.resumed:
            self._gap = (covered, at)
        self._describe()
        if self._stream.snapshot is not None:
            self._list_due = at
            if not self._known:
                # Of what is told before anything is described nothing could be stored.
                self._ask_for_list()
        elif self._feed.snapshot_when is not None:
            self._list_due = at + timedelta(seconds=self._pace.snapshot_seconds)
        elif self._gap is not None:
            self._lose()

    def _describe(self) -> None:
        """Ask what the EVSEs are, if there is a list of it and it was not asked for just now."""
        asked_at = self._clock.now()
        if self._stream.describe is None or (
            self._described_at is not None and asked_at < self._described_at + self._again
        ):
            return
        self._described_at = asked_at
        try:
            described = self._stream.describe()
        except FeedError as error:
            self.totals.written += self._writer.write_failure(asked_at, self._clock.now(), str(error))
            self._report(f"{asked_at:%H:%M:%S} no descriptions: {error}")
            return
        message = Message(self._reader.source, assets=described.assets, rejected=described.rejected)
        written = self._writer.write_messages([(message, asked_at)], is_contact=False)
        self.totals.written += written
        self._known = self._writer.evses_by_id()
        if written.assets or written.quarantined:
            self._report(f"{asked_at:%H:%M:%S} {described.evse_count} EVSEs described: {written}")

    def _break(self, broke: Broke) -> None:
        self.totals.breaks += 1
        if self._gap is not None:
            self._lose()
        self._hold(broke.alive_at)
        self._is_connected = False
        self._list_due = None
        self._report(f"{broke.at:%H:%M:%S} broken: {broke.reason}; last sign of life {broke.alive_at:%H:%M:%S}")

    def _lose(self) -> None:
        """Store that messages may have been lost, and no list came that makes up for it."""
        assert self._gap is not None
        lost_from, until = self._gap
        self._gap = None
        self.totals.lost_stretches += 1
        self.totals.written += self._writer.write_stretch(lost_from, until, Outcome.LOST, "the connection was broken")
        self._report(f"messages from {lost_from:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S} may be lost")

    def _hold(self, until: datetime) -> None:
        """Store that the connection was held."""
        assert self._mark is not None
        until = max(until, self._mark.held_until, self._stretch_from)
        self._mark = replace(self._mark, held_until=until)
        self.totals.written += self._writer.write_stretch(self._stretch_from, until, Outcome.ALIVE, mark=self._mark)
        self._stretch_from = until

    def _look_after(self, now: datetime) -> None:
        """What is due by the clock."""
        if self._is_connected and now - self._stretch_from >= timedelta(seconds=self._pace.stretch_seconds):
            self._hold(self._stream.feed.alive_at)
        if self._list_due is not None and now >= self._list_due:
            if self._stream.snapshot is not None:
                self._ask_for_list()
            else:
                self._list_due = None
                if self._gap is not None:
                    self._lose()
        if now - self._reported_at >= timedelta(seconds=self._pace.report_seconds):
            self._say(now)

    def _ask_for_list(self) -> None:
        """Ask for every EVSE; what is told meanwhile wins over the answer."""
        assert self._stream.snapshot is not None
        self._list_due = None
        asked_at = self._clock.now()
        try:
            poll = self._stream.snapshot()
        except FeedError as error:
            self.totals.written += self._writer.write_failure(asked_at, self._clock.now(), str(error))
            self._report(f"{asked_at:%H:%M:%S} no full list: {error}")
            if self._gap is not None:
                self._lose()
            self._list_due = self._clock.now() + timedelta(seconds=self._pace.snapshot_again_seconds)
            return
        if self._known:
            self._write(self._listener.buffer.take(0, sys.maxsize))
        self._write_list(poll, asked_at)

    def _say(self, now: datetime) -> None:
        """Report what arrived since the last time."""
        before, self._reported, self._reported_at = self._reported, replace(self.totals), now
        if (messages := self.totals.messages - before.messages) or self.totals.written != before.written:
            new = self.totals.written - before.written
            self._report(f"{now:%H:%M:%S} {messages} messages: {new}")

    def _raise_crash(self) -> None:
        if self._listener.crash is not None:
            raise self._listener.crash
