"""What of the things that were told of one EVSE is a change. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

RETOLD_KEPT = 16
"""Of each EVSE so many of the last times are remembered at which a word was told again."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Change(NamedTuple):
    """A row of ``raw.status_change``; ``status_word`` ``None``: absent."""

    evse_key: int
    observed_at: datetime
    status_word: str | None
    received_at: datetime
    source_updated_at: datetime | None


class Retold(NamedTuple):
    """A word that was told of an EVSE when it held already."""

    observed_at: datetime
    status_word: str
    received_at: datetime


class Life(NamedTuple):
    """Since when a feed is alive without a break, and its first complete contact since."""

    alive_from: datetime
    complete_from: datetime | None


def changes_among(
    stored: Iterable[tuple[datetime, str | None]],
    retold: Iterable[Retold],
    told: Iterable[Change],
    life: Life | None,
) -> tuple[list[Change], list[Retold]]:
    """Lay what is told of one EVSE into what is stored of it; return what is a change, and the last that were told again.

    ``stored`` (observed_at, word) begins with what was in force before the first of ``told``. What was told again earlier becomes a change when something
    else is now told of the time before it: whatever the order of arrival, the same changes are stored.
    """
    told = list(told)
    if not told:
        return [], list(retold)
    key = told[0].evse_key
    # Of the time before the first, nothing new is told, and not all that is stored is at hand.
    first_at = min(one.observed_at for one in told)
    repeats = [one for one in retold if one.observed_at <= first_at]
    again = [
        Change(key, one.observed_at, one.status_word, one.received_at, None)
        for one in retold
        if one.observed_at > first_at
    ]
    # At one instant: what is stored, then in the order of receipt.
    events: list[tuple[datetime, int, str | None, Change | None]] = [(at, 0, word, None) for at, word in stored]
    events += [(one.observed_at, 1, one.status_word, one) for one in (*again, *told)]
    changes: list[Change] = []
    in_force: tuple[datetime, str | None] | None = None
    for at, _, word, one in sorted(events, key=lambda event: event[:2]):
        if (
            one is not None
            and in_force is not None
            and in_force[1] == word
            and not _is_news_again(in_force[0], at, life)
        ):
            if at > in_force[0] and word is not None:
                repeats.append(Retold(at, word, one.received_at))
            continue
        if one is not None:
            changes.append(one)
        in_force = (at, word)
    return changes, sorted(set(repeats))[-RETOLD_KEPT:]


def _is_news_again(since: datetime, at: datetime, life: Life | None) -> bool:
    """After a gap, until the feed has told of every EVSE, only its being told again shows that a word still holds."""
    return life is not None and life.complete_from is None and since < life.alive_from <= at


def read_retold(document: list[tuple[int, str, int]]) -> list[Retold]:
    """Read ``raw.evse_latest.retold``."""
    return [Retold(_instant(at), word, _instant(received_at)) for at, word, received_at in document]


def write_retold(retold: Iterable[Retold]) -> list[tuple[int, str, int]]:
    """Make what `read_retold` reads."""
    return [(_microseconds(one.observed_at), one.status_word, _microseconds(one.received_at)) for one in retold]


def _microseconds(at: datetime) -> int:
    return int((at - _EPOCH) // timedelta(microseconds=1))


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
