"""What a push says of a Location, an EVSE or a connector: statuses, descriptions, and the document that PATCH merges into.

PUT replaces an object, PATCH replaces those of its fields that it names (null removes one). A message older than what is known of its object never takes the
document's status or time back; its status is stored at its own time all the same.

* The good part of a PUT is taken and the rest quarantined; the answer is a success whose message says so. Where nothing could be taken it is 2001.
* A status of an EVSE that is described (by a full list) but has no document is stored, and a full list is asked for: no change is lost.
* An EVSE that a Location does not list any more keeps its last word: a sender must say REMOVED, so its silence is noted, and the next full list decides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal
from zoneinfo import ZoneInfo

from ingestion.batch import Batch
from ingestion.config import OcpiPushFeed
from ingestion.model import Message, Rejected, Told, reference
from ingestion.ocpi.translate import translate_locations
from ingestion.receiver.commit import Documents, Place, place_of
from ingestion.values import parse_timestamp
from ingestion.writer import Writer

Object = dict[str, Any]

SUCCESS, INVALID, UNKNOWN_LOCATION, FAILED = 1000, 2001, 2003, 3000
STATUS_ONLY = frozenset({"status", "last_updated"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An OCPI answer: HTTP status, OCPI status_code, its message, and data."""

    http: int
    code: int
    message: str = "Success"
    data: Any = None


OK = Reply(200, SUCCESS)
CREATED = Reply(201, SUCCESS)


class InvalidPushError(Exception):
    """A push that cannot be taken as it is; the message names the field."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class Target:
    """The object that a URL names."""

    country: str
    party: str
    location_id: str
    evse_uid: str | None = None
    connector_id: str | None = None

    @cached_property
    def place(self) -> Place:
        """Where its Location is kept."""
        return place_of(f"{self.country}*{self.party}", self.location_id)

    def evse_ref(self, feed: OcpiPushFeed, uid: str) -> str:
        """Identity of one of the Location's EVSEs."""
        party = f"{self.country}*{self.party}".upper()
        parts = () if party == feed.party.upper() else (party,)
        return reference(*parts, self.location_id, uid)

    def __str__(self) -> str:
        parts = (self.country, self.party, self.location_id, self.evse_uid, self.connector_id)
        return "/".join(part for part in parts if part is not None)

    def check(self, body: Object, *, is_put: bool) -> None:
        """Raises ``InvalidPushError`` for ids unlike those of the URL, and for a PATCH without time."""
        if self.connector_id is not None:
            ids = {"id": self.connector_id}
        elif self.evse_uid is not None:
            ids = {"uid": self.evse_uid}
        else:
            ids = {"id": self.location_id, "country_code": self.country, "party_id": self.party}
        for name, expected in ids.items():
            found = body.get(name)
            if found is None:
                # Version 2.1.1 has no country_code and party_id in a Location.
                if is_put and name in ("id", "uid"):
                    raise InvalidPushError(name, "is missing")
            elif isinstance(found, bool | list | dict) or not _same(found, expected):
                raise InvalidPushError(name, f"is not '{expected}' as in the URL")
        if self.evse_uid is not None and self.connector_id is None and "status" in body:
            status = body["status"]
            if not isinstance(status, str) or not status.strip() or len(status) > 255:
                raise InvalidPushError("status", "is not a word")
        updated = body.get("last_updated")
        if not isinstance(updated, str) and not (updated is None and is_put):
            raise InvalidPushError("last_updated", "is missing" if updated is None else "is not a timestamp")


@dataclass
class Edit:
    """One PUT or PATCH (a `commit.Job`). ``text`` is the body as it was sent, ``source`` the URL's path."""

    feed: OcpiPushFeed
    target: Target
    method: Literal["PUT", "PATCH"]
    body: Object
    text: str
    source: str
    received_at: datetime
    is_contact: bool = True
    _wants_full_list: bool = False

    def __post_init__(self) -> None:
        self._zone = ZoneInfo(self.feed.naive_time_zone)
        self.target.check(self.body, is_put=self.method == "PUT")
        if self.body.get("last_updated") is not None and self._time_of(self.body) is None:
            raise InvalidPushError("last_updated", "is not a timestamp")

    @property
    def size(self) -> int:
        return len(self.text)

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.target.place,)

    def take(self, batch: Batch, documents: Documents) -> tuple[Message, Reply]:
        """What is to be stored, and the answer; the document is replaced by the edited one."""
        self._wants_full_list = False
        document = documents.get(self.target.place)
        if self.target.evse_uid is None:
            changed, message, reply = self._edit_location(batch, document)
        elif self.target.connector_id is None:
            changed, message, reply = self._edit_evse(batch, document)
        else:
            changed, message, reply = self._edit_connector(batch, document)
        if changed is not None:
            documents[self.target.place] = changed
        return message, reply

    def finish(self, writer: Writer) -> None:
        if self._wants_full_list:
            writer.ask_for_full_list(self.received_at)

    # Each returns the document to keep (None: as it is), what is to be stored, and the answer.

    def _edit_location(self, batch: Batch, document: Object | None) -> tuple[Object | None, Message, Reply]:
        if self.method == "PATCH":
            if document is None:
                return self._unknown("the Location is not known: PUT it first")
            changed = self._merged(document)
            told_evses = changed.get("evses") if "evses" in self.body else []
        else:
            changed = self.body
            told_evses = changed.get("evses")
        message, problem = self._translated(batch, changed, changed.get("evses"), told_evses)
        gone = self._gone(document, changed)
        self._wants_full_list = bool(gone)
        message = replace(message, rejected=(*message.rejected, *gone))
        if problem and not message.assets:
            return None, message, Reply(200, INVALID, problem)
        return changed, message, Reply(201 if document is None else 200, SUCCESS, problem or "Success")

    def _edit_evse(self, batch: Batch, document: Object | None) -> tuple[Object | None, Message, Reply]:
        uid = self.target.evse_uid
        assert uid is not None
        known = _find(document, "evses", "uid", uid)
        if self.method == "PATCH" and known is None:
            return self._only_its_status(batch)
        if document is None:
            message = Message(
                self.source,
                told=self._told_if_described(batch, self.body),
                rejected=self._reject(None, "its Location is not known"),
            )
            return None, message, Reply(404, UNKNOWN_LOCATION, "the Location is not known: PUT it first")
        if self.method == "PATCH":
            assert known is not None
            evse = self._merged(known)
        else:
            evse = self._not_older(known, self.body)
        changed = _with(document, "evses", "uid", uid, evse)
        if self.method == "PATCH" and self.body.keys() <= STATUS_ONLY:
            told = self._told(self.target.evse_ref(self.feed, uid), self.body)
            return changed, Message(self.source, told=told), OK
        # Its status is told with the time of this message, even if the document knows a later one.
        told_evses = [self.body | {"uid": uid}] if "status" in self.body else []
        message, problem = self._translated(batch, changed, [evse], told_evses)
        if problem and not message.assets:
            return None, message, Reply(200, INVALID, problem)
        return changed, message, Reply(201 if known is None else 200, SUCCESS, problem or "Success")

    def _edit_connector(self, batch: Batch, document: Object | None) -> tuple[Object | None, Message, Reply]:
        uid, connector_id = self.target.evse_uid, self.target.connector_id
        assert uid is not None
        assert connector_id is not None
        evse = _find(document, "evses", "uid", uid)
        known = _find(evse, "connectors", "id", connector_id)
        if document is None or evse is None or (known is None and self.method == "PATCH"):
            missing = "connector" if evse else "EVSE" if document else "Location"
            return self._unknown(f"the {missing} is not known: PUT it first")
        connector = self._not_older(known, self.body) if self.method == "PUT" else self._merged(known or {})
        evse = _with(evse, "connectors", "id", connector_id, connector)
        changed = _with(document, "evses", "uid", uid, evse)
        message, problem = self._translated(batch, changed, [evse], [])
        if problem and not message.assets:
            return None, message, Reply(200, INVALID, problem)
        return changed, message, Reply(201 if known is None else 200, SUCCESS, problem or "Success")

    def _unknown(self, reason: str) -> tuple[None, Message, Reply]:
        self._wants_full_list = True
        return None, Message(self.source, rejected=self._reject(None, reason)), Reply(404, UNKNOWN_LOCATION, reason)

    def _only_its_status(self, batch: Batch) -> tuple[None, Message, Reply]:
        """PATCH of an EVSE that no document holds: what a full list described has a state that can change."""
        self._wants_full_list = True
        uid = self.target.evse_uid
        assert uid is not None
        evse_ref = self.target.evse_ref(self.feed, uid)
        reason = "the EVSE is not known: PUT it first"
        if "status" not in self.body:
            return self._unknown(reason)
        # Quarantined by the writer if nobody described it.
        message = Message(self.source, told=self._told(evse_ref, self.body))
        if not batch.known_evses([evse_ref]):
            return None, message, Reply(404, UNKNOWN_LOCATION, reason)
        if self.body.keys() <= STATUS_ONLY:
            return None, message, OK
        partly = "only the status was taken: the rest of the EVSE is not known"
        return None, replace(message, rejected=self._reject(None, partly)), Reply(200, SUCCESS, partly)

    def _translated(self, batch: Batch, location: Object, evses: Any, told_evses: Any) -> tuple[Message, str | None]:
        """The Location with these of its EVSEs as assets, the statuses of ``told_evses``, and what was wrong."""
        target = self.target
        whole = {
            **location,
            "id": location.get("id", target.location_id),
            "country_code": target.country,
            "party_id": target.party,
            "evses": evses,
        }
        made = translate_locations([whole], self.feed, self.source)
        told: list[Told] = []
        unread: list[Told] = []
        for evse in told_evses if isinstance(told_evses, list) else []:
            uid = evse.get("uid") if isinstance(evse, dict) else None
            word = evse.get("status") if isinstance(evse, dict) else None
            if not isinstance(uid, str | int) or not isinstance(word, str) or not word.strip():
                continue
            evse_ref = target.evse_ref(self.feed, str(uid))
            (told if evse_ref in made.statuses else unread).extend(self._told(evse_ref, evse))
        if unread:
            # Its description cannot be read, and is quarantined; if an earlier one was, it has a state.
            known = batch.known_evses(one.evse_ref for one in unread)
            told += [one for one in unread if one.evse_ref in known]
        problem = None
        if made.rejected:
            first = made.rejected[0]
            problem = f"{first.record_ref} {first.field or ''}: {first.reason}"
            if len(made.rejected) > 1:
                problem += f" (and {len(made.rejected) - 1} more)"
        return Message(self.source, assets=made.assets, told=tuple(told), rejected=made.rejected), problem

    def _gone(self, before: Object | None, after: Object) -> list[Rejected]:
        """EVSEs that the Location listed and does not list any more, although nobody said that they were removed."""
        return [
            Rejected(
                self.source,
                f"{self.target}/{evse['uid']}",
                "evses",
                "not listed any more and never said to be REMOVED: its last word stands until the next full list",
                json.dumps(evse, ensure_ascii=False),
            )
            for evse in _list(before, "evses")
            if evse.get("uid") is not None
            and str(evse.get("status")).upper() != "REMOVED"
            and _find(after, "evses", "uid", str(evse["uid"])) is None
        ]

    def _merged(self, known: Object) -> Object:
        fields = dict(self.body)
        if self._is_older_than(known):
            fields = {name: value for name, value in fields.items() if name not in STATUS_ONLY}
        merged = {**known, **fields}
        return {name: value for name, value in merged.items() if name not in fields or value is not None}

    def _not_older(self, known: Object | None, body: Object) -> Object:
        if known is None or not self._is_older_than(known):
            return body
        return body | {name: known[name] for name in STATUS_ONLY if name in known}

    def _is_older_than(self, known: Object) -> bool:
        before, own = self._time_of(known), self._time_of(self.body)
        return before is not None and own is not None and own < before

    def _time_of(self, thing: Object) -> datetime | None:
        text = thing.get("last_updated")
        if not isinstance(text, str):
            return None
        try:
            return parse_timestamp(text.strip(), self._zone)
        except ValueError:
            return None

    def _told(self, evse_ref: str, evse: Object) -> tuple[Told, ...]:
        payload = self.text if evse is self.body else json.dumps(evse, ensure_ascii=False)
        return (Told(evse_ref, str(evse["status"]).strip(), self._time_of(evse), payload),)

    def _told_if_described(self, batch: Batch, evse: Object) -> tuple[Told, ...]:
        assert self.target.evse_uid is not None
        evse_ref = self.target.evse_ref(self.feed, self.target.evse_uid)
        return self._told(evse_ref, evse) if "status" in evse and batch.known_evses([evse_ref]) else ()

    def _reject(self, field: str | None, reason: str) -> tuple[Rejected, ...]:
        return (Rejected(self.source, str(self.target), field, reason, self.text),)


@dataclass
class Look:
    """GET of one object (a `commit.Job`): as it stands after all that was pushed before."""

    target: Target
    received_at: datetime
    size: int = 0
    is_contact: bool = False

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.target.place,)

    def take(self, batch: Batch, documents: Documents) -> tuple[None, Reply]:
        found: Object | None = documents.get(self.target.place)
        if self.target.evse_uid is not None:
            found = _find(found, "evses", "uid", self.target.evse_uid)
        if self.target.connector_id is not None:
            found = _find(found, "connectors", "id", self.target.connector_id)
        return None, Reply(404, UNKNOWN_LOCATION, "not known here") if found is None else replace(OK, data=found)

    def finish(self, writer: Writer) -> None:
        pass


@dataclass
class Refuse:
    """A push that cannot be taken as it is (a `commit.Job`): kept whole, and answered so."""

    rejected: Rejected
    reply: Any
    received_at: datetime
    places: tuple[Place, ...] = ()
    is_contact: bool = True

    @property
    def size(self) -> int:
        return len(self.rejected.payload)

    def take(self, batch: Batch, documents: Documents) -> tuple[Message, Any]:
        return Message(self.rejected.source, rejected=(self.rejected,)), self.reply

    def finish(self, writer: Writer) -> None:
        pass


def _same(found: object, expected: str) -> bool:
    return str(found).strip().casefold() == expected.strip().casefold()


def _list(parent: Object | None, children: str) -> list[Object]:
    found = None if parent is None else parent.get(children)
    return [child for child in found if isinstance(child, dict)] if isinstance(found, list) else []


def _find(parent: Object | None, children: str, key: str, value: str) -> Object | None:
    """The child object with this id, whatever its letter case."""
    return next((child for child in _list(parent, children) if _same(child.get(key), value)), None)


def _with(parent: Object, children: str, key: str, value: str, child: Object) -> Object:
    """The parent with this child in the place of the one with the same id, or at the end."""
    found = parent.get(children)
    siblings = list(found) if isinstance(found, list) else []
    for position, sibling in enumerate(siblings):
        if isinstance(sibling, dict) and _same(sibling.get(key), value):
            siblings[position] = child
            break
    else:
        siblings.append(child)
    return {**parent, children: siblings}
