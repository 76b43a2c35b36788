"""What every kind of feed hands to the writer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol


class Outcome(StrEnum):
    """What a contact proved. ``COMPLETE`` told the state of every EVSE of the feed; in a ``LOST`` stretch messages of a stream may have been lost."""

    COMPLETE = "complete"
    ALIVE = "alive"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Asset:
    """One connector, with its EVSE, charger and site as the source describes them.

    ``*_ref`` are identities within the feed, made by `reference`: site ``site``, charger ``site/charger``, EVSE ``site/evse``, connector ``connector``
    (within its EVSE). A site of another party than the feed's own has ``party/`` in front of all three. ``*_id`` are the source's own spelling; ``evse_id``
    is what statuses refer to (OCPI ``uid``).
    ``power_kw`` is rated power. ``time_zone`` is an IANA name that exists.
    """

    site_ref: str
    site_id: str
    charger_ref: str
    charger_id: str
    evse_ref: str
    evse_id: str
    connector_ref: str
    connector_id: str
    time_zone: str
    site_name: str | None = None
    address: str | None = None
    suburb: str | None = None
    postcode: str | None = None
    state: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    emi3_id: str | None = None
    """The EVSE id in eMI3 form (OCPI ``evse_id``), as printed on the charger; may be absent, repeated or reused."""
    connector_standard: str | None = None
    power_kw: Decimal | None = None
    commissioned_on: date | None = None
    valid_from: datetime | None = None
    """When this description became true; ``None``: from the time it was received."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """What else the source said and no column holds."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of one EVSE at one time. ``status_word`` is the source's own; ``None`` says absent."""

    evse_ref: str
    status_word: str | None
    observed_at: datetime
    received_at: datetime
    source_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contact:
    """A poll (``contact_from == contact_until``) or a stretch of a live stream."""

    contact_from: datetime
    contact_until: datetime
    outcome: Outcome
    received_at: datetime
    evse_count: int | None = None
    body_sha256: bytes | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be taken: where it stood, which field was wrong, why, and the record itself as text.

    ``context``: what stood around the record and is needed to read it again (JSON; for an EVSE its site without the other EVSEs). ``None`` where the
    record alone is enough, or is kept and only a field of it was dropped.
    """

    source: str
    record_ref: str
    field: str | None
    reason: str
    payload: str
    context: str | None = None


Status = tuple[str, datetime | None]
"""The source's word, and the source's own time of it."""


@dataclass(frozen=True, slots=True)
class Translated:
    """What a document says, or what a record of it says when it is read again.

    ``statuses``: by ``evse_ref``, of EVSEs of ``assets`` only. ``evse_count``: EVSEs that the document lists, whether they could be taken or not.
    """

    assets: tuple[Asset, ...] = ()
    statuses: dict[str, Status] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    evse_count: int = 0


@dataclass(frozen=True, slots=True)
class Poll:
    """An answer that tells the state of every EVSE of the feed: a full list, a delta, a snapshot of a stream.

    ``is_full``: ``statuses`` lists every readable EVSE of the feed (evse_ref to the source's word and its own ``last_updated``), and an EVSE that is not in it
    is absent. Otherwise (a delta that reaches back to the last complete contact) what is not in it is unchanged.
    ``is_unchanged``: the feed answered in full with the very bytes (or an ETag) of the last complete answer; then the lists are empty.
    ``body_sha256`` identifies a full answer, ``None`` for any other. ``evse_count``: EVSEs that a full list names, readable or not, when nothing but their
    number shows that the list is whole (``max_shrink_ratio``). ``documents`` are Locations to be kept as they are: party, location id, object.
    """

    body_sha256: bytes | None
    is_unchanged: bool = False
    assets: tuple[Asset, ...] = ()
    statuses: dict[str, Status] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    is_full: bool = True
    evse_count: int | None = None
    documents: tuple[tuple[str, str, dict[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says of one EVSE. Without ``observed_at`` it is true since the message was received.

    ``payload``: the record as text, to be quarantined when nobody has described the EVSE yet.
    """

    evse_ref: str
    status_word: str
    observed_at: datetime | None = None
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What a feed said by itself, of some EVSEs or none: it proves that the feed is alive, no more.

    ``source`` says where it came from, for people (a URL path, a file). ``is_whole_evse``: the described EVSEs have no connectors but those of ``assets``.
    """

    source: str
    assets: tuple[Asset, ...] = ()
    told: tuple[Told, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    is_whole_evse: bool = True


class FeedError(Exception):
    """The feed could not be reached or did not answer in full. The message holds no secret."""


class PolledFeed(Protocol):
    """A feed that is asked again and again for the state of every EVSE."""

    def poll(self) -> Poll:
        """Ask once. Raises ``FeedError`` for anything short of a complete answer."""
        ...

    def forget(self) -> None:
        """Read the next answer in full, whatever the last one was."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it came over a stream. ``event_id``: what the source may be asked to go on after; empty when it names none."""

    data: bytes
    event_id: str = ""


class StreamFeed(Protocol):
    """A feed that speaks by itself over a connection that is held. One thread connects and receives."""

    @property
    def alive_at(self) -> datetime:
        """The last sign of life of the connection, the present one or the one that broke."""
        ...

    @property
    def retry_seconds(self) -> float | None:
        """How long the source wants to be left alone before it is asked again."""
        ...

    def connect(self, after_event_id: str) -> bool:
        """Connect and subscribe; whether the source goes on right after ``after_event_id``. Raises ``FeedError``."""
        ...

    def receive(self) -> Frame | None:
        """The next message; ``None`` when there was none for a moment and the connection still counts as alive.

        Raises ``FeedError`` when the connection broke or is silent for longer than it may be.
        """
        ...

    def held_until(self, now: datetime) -> datetime:
        """Until when a connection that is given up now, unbroken, counts as held."""
        ...

    def interrupt(self) -> None:
        """Make `receive` return soon. May be called from another thread."""
        ...

    def close(self) -> None:
        """Give back the connection, if any."""
        ...


def reference(*parts: str) -> str:
    """Identity from its parts: blanks stripped, case-folded, joined by ``/``."""
    return "/".join(part.strip().casefold() for part in parts)
