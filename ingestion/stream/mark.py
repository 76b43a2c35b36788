"""Where one collector stopped writing, so that the next one goes on right there. Pure.

Two collectors of a feed receive the same messages over two connections, some milliseconds apart. The one that writes leaves a mark with each transaction: the
last things told, as fingerprints with their times of receipt. The next one finds the place in what it has received meanwhile.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingestion.model import Told

MARK_LENGTH = 256
"""Things told that a mark remembers. More than one tells places apart where statuses flap."""

Thing = tuple[bytes, datetime]
"""Something told, as a fingerprint, and when it was received."""

_THING = struct.Struct(">8sq")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Mark:
    """``held_until``: until when the feed is covered. ``things``: the last ones written, in order. ``event_id``: what a source may be asked to go on after."""

    held_until: datetime
    things: tuple[Thing, ...] = ()
    event_id: str = ""

    def after(self, told: Sequence[bytes], received_at: datetime, event_id: str) -> Mark:
        """The mark once one more message is written: what it told, and when it was received."""
        things = (*self.things, *((one, received_at) for one in told))[-MARK_LENGTH:] if told else self.things
        return Mark(max(self.held_until, received_at), things, event_id or self.event_id)


def pack_things(things: Sequence[Thing]) -> bytes:
    """As they are stored."""
    return b"".join(_THING.pack(one, (at - _EPOCH) // _MICROSECOND) for one, at in things)


def unpack_things(packed: bytes) -> tuple[Thing, ...]:
    """From how they are stored."""
    return tuple((one, _EPOCH + micros * _MICROSECOND) for one, micros in _THING.iter_unpack(packed))


def fingerprint(told: Told, event_id: str) -> bytes:
    """What makes two receipts of one thing told equal. The bytes around it may differ between connections (numbers, times of sending)."""
    own_time = told.observed_at.isoformat() if told.observed_at else ""
    text = "\0".join((event_id, told.evse_ref, told.status_word, own_time))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]


def written_before(written: Sequence[Thing], buffered: Sequence[Thing], since: datetime | None, late: timedelta) -> int:
    """How many of the first ``buffered`` things the other collector, which wrote ``written`` at last, has written.

    Up to the place everything buffered equals the end of what was written. Where that holds at several places (flapping), the times decide: the last thing was
    received by both at nearly the same time, and what was written but is not buffered came before ``since``, when the buffered connection began (``None``: it
    went on from before). Where it holds nowhere (a source that does not send in one order), what was received up to ``late`` before the last thing counts as
    written: rather twice than never.
    """
    if not written or (since is not None and written[-1][1] <= since):
        return 0
    last, last_at = written[-1]
    places = [
        count
        for count in range(1, len(buffered) + 1)
        # The last one decides for nearly all places.
        if buffered[count - 1][0] == last
        and all(buffered[count - back][0] == written[-back][0] for back in range(2, min(count, len(written)) + 1))
    ]

    def unexplained(count: int) -> float:
        """Seconds that this place leaves unexplained."""
        skew = abs((buffered[count - 1][1] - last_at).total_seconds())
        if since is None or count >= len(written):
            return skew
        # A place that is too early by some steps of a flapping saves at most as much skew as it adds here: so this weighs more.
        return skew + 3 * max(0.0, (written[-count - 1][1] - since).total_seconds())

    if places:
        return min(places, key=unexplained)
    return sum(received_at < last_at - late for _, received_at in buffered)
