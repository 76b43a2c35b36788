"""What was told of each EVSE lately, so that a message that comes late does not hide one that came before it and told nothing new then.

Told A at 10:00 and A again at 10:05, the second is not stored. When B of 10:02 comes after it, A of 10:05 has become news.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from datetime import datetime

from ingestion.model import Message, Told

MOST_TOLD = 8
"""Statuses that are remembered of each EVSE. Messages overtake each other by seconds."""


class Recent:
    """The latest statuses of one feed's EVSEs, in the memory of this process."""

    def __init__(self) -> None:
        self._told: defaultdict[str, deque[tuple[datetime, Told]]] = defaultdict(lambda: deque(maxlen=MOST_TOLD))

    def with_overtaken(self, messages: list[tuple[Message, datetime]]) -> list[tuple[Message, datetime]]:
        """The messages, each also telling again what is remembered of a later time than a status in it."""
        return [(self._with_overtaken(message), received_at) for message, received_at in messages]

    def remember(self, messages: list[tuple[Message, datetime]]) -> None:
        """Remember what was stored."""
        for message, _ in messages:
            for told in message.told:
                if told.observed_at is not None:
                    known = self._told[told.evse_ref]
                    if (told.observed_at, told) not in known:
                        known.append((told.observed_at, told))

    def _with_overtaken(self, message: Message) -> Message:
        again = tuple(
            known
            for told in message.told
            if told.observed_at is not None and told.evse_ref in self._told
            for at, known in self._told[told.evse_ref]
            if at > told.observed_at
        )
        return replace(message, told=(*message.told, *again)) if again else message
