"""Where one collector stopped writing, so that the next one goes on right there. Pure.

Two collectors of a feed receive the same messages over two connections, some milliseconds apart. The one that writes leaves a mark with each transaction: the
fingerprints of the last things told, and when the last one was received. The next one finds them again in what it has received meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingestion.model import Told

FINGERPRINT_BYTES = 8
MARK_LENGTH = 256
"""Things told that a mark remembers. More than one tells two places apart where statuses flap."""


@dataclass(frozen=True, slots=True)
class Mark:
    """``held_until``: until when the feed is covered. ``fingerprints``: of the last things written, oldest first; ``received_at``: when the last was received."""

    held_until: datetime
    received_at: datetime | None = None
    fingerprints: tuple[bytes, ...] = ()
    event_id: str = ""

    def after(self, told: Sequence[bytes], received_at: datetime, event_id: str) -> Mark:
        """The mark once one more message is written: what it told, and when it was received."""
        return Mark(
            max(self.held_until, received_at),
            received_at if told else self.received_at,
            (*self.fingerprints, *told)[-MARK_LENGTH:] if told else self.fingerprints,
            event_id or self.event_id,
        )


def split_fingerprints(joined: bytes) -> tuple[bytes, ...]:
    """Fingerprints that were stored one after the other."""
    return tuple(joined[at : at + FINGERPRINT_BYTES] for at in range(0, len(joined), FINGERPRINT_BYTES))


def fingerprint(told: Told, event_id: str) -> bytes:
    """What makes two receipts of one thing told equal. The bytes around it may differ between connections (numbers, times of sending)."""
    own_time = told.observed_at.isoformat() if told.observed_at else ""
    text = "\0".join((event_id, told.evse_ref, told.status_word, own_time))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:FINGERPRINT_BYTES]


def written_before(mark: Mark, buffered: Sequence[tuple[bytes, datetime]], late: timedelta) -> int:
    """How many of the first ``buffered`` things (fingerprint, time of receipt) the collector that left ``mark`` has written.

    The place is where everything buffered before it equals the end of the mark; of several such places (flapping) the one nearest in time. Where there is none
    (the source does not send in one order), what was received up to ``late`` before the mark counts as written: rather twice than never.
    """
    if mark.received_at is None or not mark.fingerprints:
        return 0
    tail = mark.fingerprints
    matches = []
    for count in range(1, len(buffered) + 1):
        # The last one decides for nearly all places.
        if buffered[count - 1][0] != tail[-1]:
            continue
        length = min(count, len(tail))
        if all(buffered[count - back][0] == tail[-back] for back in range(1, length + 1)):
            matches.append(count)
    if matches:
        received_at = mark.received_at
        return min(matches, key=lambda count: abs(buffered[count - 1][1] - received_at))
    return sum(received_at < mark.received_at - late for _, received_at in buffered)
