"""From a CPO's own JSON (or rows) to assets and statuses, by JMESPath expressions of its file. Pure: no network, no clock.

A document is read in three levels: sites, in each its EVSEs, in each its connectors. ``sites``, ``evses`` and ``connectors`` give the lists, each within the
object of the level above; one expression per field is read within its own object. Flat documents (a record per EVSE or per connector) leave lists out: then
the object of the level above stands for itself. In an object of an inner list ``_site`` (and for a connector ``_evse``) is the object around it:
``charger_id: _site.id``.

An expression gives one value: text, number or null. A list or an object is an error that names the expression. Blanks around texts are stripped; an empty
text, null and NaN say nothing; a number may be written as text with a decimal point ("22.0", not "22,0": nobody can tell what "22,000" is); a number
may be an id; a boolean may be a status word.

What is wrong costs as little as possible:

* without its id (or with the id of another) a record is rejected alone; so is a site without a time zone, an EVSE without a connector;
* any other field that cannot be read is left out and noted, its record is kept;
* an EVSE without a readable status is described, and noted: it is absent from the statuses.

Identity: EVSE ``site_id/evse_id``, charger ``site_id/charger_id`` (without a ``charger_id`` each EVSE is its own charger), connector ``connector_id`` (without
one its place in the EVSE's list). An EVSE that moves to another site is a new EVSE, as in OCPI; so ``site_id`` must be something that lasts. Statuses that
stand apart from the descriptions name an EVSE by ``evse_id`` alone, in any case: an id that two described EVSEs share cannot be told apart
and its status is rejected. A source that knows only what is stored (a stream) resolves an id to the EVSE described last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import jmespath
import jmespath.exceptions

from ingestion.mapping_settings import ChargerId, ConnectorFields, Mapping, SiteFields, StatusMapping, Time
from ingestion.model import Asset, Rejected, Status, Translated, reference
from ingestion.places import time_zone_at
from ingestion.settings import FeedSettings
from ingestion.times import is_time_zone
from ingestion.values import (
    MAX_ID_LENGTH,
    MAX_POWER_KW,
    charger_prefix,
    parse_degrees,
    parse_json,
    parse_number,
    parse_timestamp,
    payload_text,
    rated_power_kw,
    storable,
)

if TYPE_CHECKING:
    from ingestion.config import CpoConfig


# Expressions at work


class NoListError(ValueError):
    """An expression that should give a list gives something else."""


_KEYS_ONLY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> Callable[[Any], Any]:
    if not _KEYS_ONLY.fullmatch(expression):
        compiled = jmespath.compile(expression)
        return lambda value: compiled.search(value)

    keys = expression.split(".")

    def follow(value: Any) -> Any:
        for key in keys:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    return follow


def search(expression: str, value: object) -> Any:
    """What the expression gives. Raises ``ValueError`` where it cannot work on this value (a function on the wrong type)."""
    try:
        return _compiled(expression)(value)
    except (jmespath.exceptions.JMESPathError, ArithmeticError, TypeError, AttributeError) as error:
        raise ValueError(f"the expression fails: {' '.join(str(error).split())[:200]}") from error


def records(document: object, expression: str) -> list[object]:
    """The list that the expression gives. Raises ``NoListError`` for anything else: null where a list belongs is no empty list."""
    try:
        found = search(expression, document)
    except ValueError as error:
        raise NoListError(f"'{expression}': {error}") from error
    if not isinstance(found, list):
        raise NoListError(f"'{expression}' gives {_kind(found)} where a list belongs")
    return found


def describe_key(mapping: Mapping) -> tuple[str, ...]:
    """The expressions that tell a document's records apart."""
    if mapping.evses is not None:
        return (mapping.site.site_id,)
    inner = () if mapping.connectors is not None else (mapping.connector.connector_id,)
    return (mapping.site.site_id, mapping.evse.evse_id, *(path for path in inner if path is not None))


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "a single value"


def _is_blank(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, str) and not value.strip()) or value != value


def _text(value: object, limit: int | None = None) -> str:
    if isinstance(value, float | Decimal) and value == int(value):
        # Rows of a table have 12.0 where the source has 12.
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | date):
        raise ValueError(f"gives {'a boolean' if isinstance(value, bool) else _kind(value)} where one text belongs")
    text: str = value.isoformat() if isinstance(value, date) else storable(str(value)).strip()
    if limit is not None and len(text) > limit:
        raise ValueError(f"has {len(text)} characters, more than {limit}")
    return text


def _id(value: object) -> str:
    return _text(value, MAX_ID_LENGTH)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else _id(value)


def _plain(value: object) -> Any:
    """Anything that JSON, and so the database, can hold."""
    return storable(json.loads(json.dumps(value, allow_nan=False, default=str)))


def _number(value: object) -> float:
    number = parse_number(value)
    if number is None:
        raise ValueError(
            f"gives {_kind(value) if isinstance(value, dict | list) else payload_text(value)[:80]}, no number"
        )
    return number


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Read = TypeVar("_Read")


# Reading a document


@dataclass(slots=True)
class _Document:
    """What was taken so far from one document."""

    mapping: Mapping
    feed: FeedSettings
    source: str
    naive_time_zone: ZoneInfo
    assets: list[Asset] = field(default_factory=list)
    statuses: dict[str, Status] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    taken: dict[str, _Taken] = field(default_factory=dict)
    """By evse_ref."""
    evse_count: int = 0


@dataclass(slots=True)
class _Taken:
    """An EVSE that was read: its objects and its connectors so far."""

    raws: list[object]
    word: str | None
    connector_refs: set[str]


@dataclass(slots=True)
class _Record:
    """One object being read. ``ref``: where it stands, for people; ``level`` is the block of the mapping that reads it."""

    rejected: list[Rejected]
    source: str
    naive_time_zone: ZoneInfo
    level: str
    raw: object
    scope: object
    """The object with what stands around it."""
    ref: str
    context: Callable[[], dict[str, Any]]

    def get(self, name: str, expression: str | None, read: Callable[[Any], _Read]) -> _Read | None:
        """A field that may be absent; one that cannot be read is left out and noted."""
        try:
            return self.must(name, expression, read)
        except _WrongError as wrong:
            self.note(wrong.field, f"kept without this field: {wrong.reason}", wrong.found)
            return None

    def must(self, name: str, expression: str | None, read: Callable[[Any], _Read]) -> _Read | None:
        """A field without which the record cannot be used when it cannot be read. Raises ``_WrongError``."""
        if expression is None:
            return None
        found = None
        try:
            found = search(expression, self.scope)
            return None if _is_blank(found) else read(found)
        except (ValueError, OverflowError) as error:
            raise _WrongError(self.field(name, expression), str(error), found) from error

    def identity(self, name: str, expression: str) -> str:
        """A field that makes the record what it is. Raises ``_WrongError``, also when it is not there."""
        found = self.must(name, expression, _id)
        if found is None:
            raise _WrongError(self.field(name, expression), "gives nothing", None)
        return found

    def time(self, name: str, stated: Time | None) -> datetime | None:
        if stated is None:
            return None
        if stated.unit == "iso8601":
            return self.get(name, stated.path, self._instant)
        scale = 1 if stated.unit == "seconds" else 1000
        return self.get(name, stated.path, lambda found: _EPOCH + timedelta(seconds=_number(found) / scale))

    def _instant(self, found: object) -> datetime:
        if isinstance(found, int | float | Decimal):
            raise ValueError("gives a number: name its unit, {path: ..., unit: seconds}")
        try:
            return parse_timestamp(_text(found), self.naive_time_zone)
        except ValueError:
            raise ValueError(f"no ISO 8601 time: {_text(found)[:80]}") from None

    def field(self, name: str, expression: str) -> str:
        return f"{self.level}.{name} ({expression})"

    def note(self, field: str, reason: str, found: object) -> None:
        """Something of a record that is kept was left out."""
        self.rejected.append(Rejected(self.source, self.ref, field, reason, payload_text(found)))

    def reject(self, field: str | None, reason: str) -> None:
        """The record is not taken, or not all that it should say."""
        context = json.dumps(self.context(), ensure_ascii=False, default=str)
        self.rejected.append(Rejected(self.source, self.ref, field, reason, payload_text(self.raw), context))


class _WrongError(Exception):
    def __init__(self, field: str, reason: str, found: object) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason, self.found = field, reason, found


@dataclass(frozen=True, slots=True)
class _Site:
    """What all EVSEs of a site's object share."""

    raw: object
    site_id: str
    time_zone: str
    fields: dict[str, Any]


def translate(document: object, mapping: Mapping, feed: FeedSettings, source: str) -> Translated:
    """Read a document. ``source``: where it came from, for people (a URL path, a file).

    A single object stands for a list of one. Each record that cannot be taken is rejected alone, a document without the list as a whole. No input raises.
    """
    try:
        found = search(mapping.sites, document)
        items = [found] if isinstance(found, dict) else records(document, mapping.sites)
    except ValueError as error:
        context = json.dumps({"level": "document"})
        return Translated(
            rejected=(
                Rejected(source, "document", f"sites ({mapping.sites})", str(error), payload_text(document), context),
            )
        )
    return translate_records(items, mapping, feed, source)


def translate_records(items: Iterable[object], mapping: Mapping, feed: FeedSettings, source: str) -> Translated:
    """Read the sites' objects of a document. No input raises."""
    read = _Document(mapping, feed, source, ZoneInfo(feed.naive_time_zone))
    for position, raw in enumerate(items):
        _take_site(read, raw, position)
    return _done(read)


def _done(read: _Document) -> Translated:
    return Translated(tuple(read.assets), read.statuses, tuple(read.rejected), read.evse_count)


def _take_site(read: _Document, raw: object, position: int) -> None:
    mapping, expressions = read.mapping, read.mapping.site
    record = _record(read, "site", raw, raw, _spelling(raw, expressions.site_id, position), lambda: {"level": "site"})
    if not isinstance(raw, dict):
        read.evse_count += 1
        return record.reject(None, f"{_kind(raw)} where an object belongs")
    evses: list[object] = [raw]
    try:
        if mapping.evses is not None:
            evses = records(raw, mapping.evses)
    except NoListError as error:
        read.evse_count += 1
        return record.reject(f"evses ({mapping.evses})", str(error))
    read.evse_count += len(evses)
    site = _site(read, record)
    if site is not None:
        for index, evse in enumerate(evses):
            _take_evse(read, site, record.ref, evse, index)
    return None


def _site(read: _Document, record: _Record) -> _Site | None:
    """What the site's object says of the site; ``None``: it was rejected."""
    expressions = read.mapping.site
    try:
        site_id = record.identity("site_id", expressions.site_id)
    except _WrongError as wrong:
        record.reject(wrong.field, wrong.reason)
        return None
    latitude, longitude = _coordinates(record, expressions)
    stated = record.get("time_zone", expressions.time_zone, _text)
    by_place = None if latitude is None or longitude is None else time_zone_at(latitude, longitude)
    time_zone = stated if stated and is_time_zone(stated) else by_place or read.feed.time_zone
    if time_zone is None:
        said = f"'{stated}' is no IANA time zone" if stated else "no time zone"
        record.reject("site.time_zone", f"{said}, none by its coordinates, and the feed's settings name none")
        return None
    if stated and time_zone != stated:
        record.note("site.time_zone", f"kept with {time_zone}: no IANA time zone", stated)
    names = ("site_name", "address", "suburb", "postcode", "state", "country")
    fields: dict[str, Any] = {name: record.get(name, getattr(expressions, name), _text) for name in names}
    return _Site(record.raw, site_id, time_zone, {**fields, "latitude": latitude, "longitude": longitude})


def _coordinates(record: _Record, expressions: SiteFields) -> tuple[float | None, float | None]:
    """Latitude and longitude as sent, or neither, with a note. Swapped ones in range stay swapped."""
    found: object
    if (pair := expressions.coordinates) is not None:
        field = record.field("coordinates", pair.path)
        found = record.get("coordinates", pair.path, lambda value: value)
        parts = (
            found
            if isinstance(found, list)
            else re.split(r"\s*[,;]\s*|\s+", found.strip())
            if isinstance(found, str)
            else []
        )
        latitude, longitude = (parts if pair.order == "lat lon" else parts[::-1]) if len(parts) == 2 else (None, None)
    else:
        field = record.field("latitude, longitude", f"{expressions.latitude}, {expressions.longitude}")
        latitude = record.get("latitude", expressions.latitude, lambda value: value)
        longitude = record.get("longitude", expressions.longitude, lambda value: value)
        found = None if latitude is None and longitude is None else [latitude, longitude]
    if found is None:
        return None, None
    read = parse_degrees(latitude, 90), parse_degrees(longitude, 180)
    if None in read:
        record.note(field, "kept without coordinates: not two numbers in range", found)
        return None, None
    return read


def _take_evse(
    read: _Document, site: _Site, site_record_ref: str, raw: object, position: int, alone: object = None
) -> None:
    """Read one EVSE; of its connectors only ``alone``, when one is read again."""
    mapping, expressions = read.mapping, read.mapping.evse
    is_flat = raw is site.raw
    scope = raw if is_flat or not isinstance(raw, dict) else {**raw, "_site": site.raw}

    def context() -> dict[str, Any]:
        return {"level": "site"} if is_flat else {"level": "evse", "site": _without_list(site.raw, mapping.evses)}

    evse_record_ref = f"{site_record_ref}/{_spelling(scope, expressions.evse_id, position)}"
    record = _record(read, "evse", raw, scope, evse_record_ref, context)
    if not isinstance(raw, dict):
        return record.reject(None, f"{_kind(raw)} where an object belongs")
    try:
        evse_id = record.identity("evse_id", expressions.evse_id)
        word = None
        if expressions.status is not None:
            try:
                word = record.must("status", expressions.status, _word)
            except _WrongError as wrong:
                record.reject(wrong.field, f"described without a status: {wrong.reason}")
            else:
                if word is None:
                    field = record.field("status", expressions.status)
                    record.reject(field, "described without a status: gives nothing")
        connectors = _connectors(read, site, record, raw, alone)
    except _WrongError as wrong:
        return record.reject(wrong.field, wrong.reason)
    if not connectors:
        return record.reject(
            f"connectors ({mapping.connectors})" if mapping.connectors else None, "no connector that can be read"
        )
    evse_ref = reference(site.site_id, evse_id)
    known = read.taken.get(evse_ref)
    if known is None:
        read.taken[evse_ref] = _Taken([raw], word, set(connectors))
    elif raw in known.raws:
        read.evse_count -= 1
        return None
    elif word != known.word or known.connector_refs & connectors.keys():
        # Flat records may tell of an EVSE's connectors one by one; anything else is told twice, and differently.
        return record.reject(
            record.field("evse_id", expressions.evse_id), "repeated in the same answer, and differently"
        )
    else:
        known.raws.append(raw)
        known.connector_refs |= connectors.keys()
        read.evse_count -= 1
    updated_at = record.time("updated_at", expressions.updated_at)
    if word is not None and evse_ref not in read.statuses:
        read.statuses[evse_ref] = (word, updated_at)
    charger_id = _charger_id(record, expressions.charger_id) or evse_id
    zone = ZoneInfo(site.time_zone)
    emi3_id = record.get("emi3_id", expressions.emi3_id, _id)
    commissioned_on = record.get("commissioned_on", expressions.commissioned_on, lambda value: _date(value, zone, read))
    for connector_ref, own in connectors.items():
        read.assets.append(
            Asset(
                site_ref=reference(site.site_id),
                site_id=site.site_id,
                charger_ref=reference(site.site_id, charger_id),
                charger_id=charger_id,
                evse_ref=evse_ref,
                evse_id=evse_id,
                connector_ref=connector_ref,
                time_zone=site.time_zone,
                emi3_id=emi3_id,
                commissioned_on=commissioned_on,
                **site.fields,
                **own,
            )
        )
    return None


def _charger_id(record: _Record, rule: ChargerId | None) -> str | None:
    if rule is None:
        return None
    whole = record.get("charger_id", rule.path, _id)
    return whole if whole is None or rule.before_last is None else charger_prefix(whole, rule.before_last)


def _date(value: object, zone: ZoneInfo, read: _Document) -> date:
    text = _text(value)
    try:
        return (
            date.fromisoformat(text)
            if len(text) <= 10
            else parse_timestamp(text, read.naive_time_zone).astimezone(zone).date()
        )
    except ValueError:
        raise ValueError(f"no ISO 8601 date: {text[:80]}") from None


def _connectors(
    read: _Document, site: _Site, evse: _Record, raw_evse: object, alone: object
) -> dict[str, dict[str, Any]]:
    """What the EVSE's readable connectors say, by their reference. Raises ``_WrongError`` when there is no list."""
    expressions = read.mapping.connectors, read.mapping.connector
    items: list[object] = [raw_evse]
    if alone is not None:
        items = [alone]
    elif expressions[0] is not None:
        try:
            items = records(evse.scope, expressions[0])
        except NoListError as error:
            raise _WrongError(f"connectors ({expressions[0]})", str(error), None) from error
    taken: dict[str, dict[str, Any]] = {}
    raws: dict[str, object] = {}
    for position, raw in enumerate(items):
        is_flat = raw is raw_evse
        scope = (
            evse.scope if is_flat else {**raw, "_site": site.raw, "_evse": raw_evse} if isinstance(raw, dict) else raw
        )

        def context() -> dict[str, Any]:
            around = evse.context()
            return {**around, "level": "connector", "evse": _without_list(raw_evse, expressions[0])}

        ref = evse.ref
        if not is_flat or expressions[1].connector_id is not None:
            ref += "/" + _spelling(scope, expressions[1].connector_id, position)
        record = _record(read, "connector", raw, scope, ref, evse.context if is_flat else context)
        if not isinstance(raw, dict):
            record.reject(None, f"{_kind(raw)} where an object belongs")
            continue
        connector_id: str | None = str(position + 1)
        try:
            if expressions[1].connector_id is not None:
                connector_id = record.identity("connector_id", expressions[1].connector_id)
        except _WrongError as wrong:
            record.reject(wrong.field, wrong.reason)
            continue
        assert connector_id is not None
        connector_ref = reference(connector_id)
        if connector_ref in taken:
            if raws[connector_ref] != raw:
                record.reject(
                    record.field("connector_id", expressions[1].connector_id or "position"), "repeated, and differently"
                )
            continue
        raws[connector_ref] = raw
        attributes = {name: record.get(name, path, _plain) for name, path in read.mapping.attributes.items()}
        taken[connector_ref] = {
            "connector_id": connector_id,
            "connector_standard": record.get("connector_standard", expressions[1].connector_standard, _text),
            "power_kw": _power_kw(record, expressions[1]),
            "attributes": {name: value for name, value in attributes.items() if value is not None},
        }
    return taken


def _power_kw(record: _Record, expressions: ConnectorFields) -> Decimal | None:
    stated = record.get("power", expressions.power.path, _number) if expressions.power else None
    watts = (stated or 0) * (1000 if expressions.power and expressions.power.unit == "kW" else 1)
    power_kw = rated_power_kw(
        (record.get("power_type", expressions.power_type, _text) or "").upper(),
        record.get("volts", expressions.volts, _number) or 0,
        record.get("amperes", expressions.amperes, _number) or 0,
        watts,
    )
    if power_kw is not None and power_kw > MAX_POWER_KW:
        record.note("connector.power", f"kept without power: {power_kw.normalize():f} kW cannot be", record.raw)
        return None
    return power_kw


def _record(
    read: _Document, level: str, raw: object, scope: object, ref: str, context: Callable[[], dict[str, Any]]
) -> _Record:
    return _Record(read.rejected, read.source, read.naive_time_zone, level, raw, scope, ref, context)


def _spelling(scope: object, expression: str | None, position: int) -> str:
    """How the source spells an id, for people to find the record again; ``#position`` when it has none."""
    try:
        found = None if expression is None else search(expression, scope)
        return f"#{position}" if _is_blank(found) else _id(found)
    except (ValueError, OverflowError):
        return f"#{position}"


def _without_list(raw: object, expression: str | None) -> object:
    """The object without the member that holds the list: what is needed to read one of the list again."""
    if not isinstance(raw, dict) or expression is None:
        return raw
    for key in raw:
        rest = {name: value for name, value in raw.items() if name != key}
        try:
            if not search(expression, rest):
                return rest
        except ValueError:
            return rest
    return raw


# Statuses that stand apart


@dataclass(frozen=True, slots=True)
class EvseStatus:
    """What a record says of an EVSE that is described elsewhere. ``evse_id`` is the source's spelling."""

    evse_id: str
    word: str
    updated_at: datetime | None
    record: object

    @property
    def payload(self) -> str:
        """The record as text, for the quarantine."""
        return payload_text(self.record)


@dataclass(frozen=True, slots=True)
class Statuses:
    """What a list of statuses, or a message, says, in its order; an EVSE may be in it more than once. ``count``: records, taken or not."""

    source: str
    told: tuple[EvseStatus, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    count: int = 0


STATUS_CONTEXT = json.dumps({"level": "status"})
"""What stands in the quarantine beside a record of statuses: that it is one."""


def translate_statuses(document: object, mapping: StatusMapping, feed: FeedSettings, source: str) -> Statuses:
    """Read a list of statuses, or a message that holds one or one status. What holds none gives none. No input raises."""
    try:
        found = search(mapping.items, document)
    except ValueError as error:
        rejected = Rejected(source, "document", f"items ({mapping.items})", str(error), payload_text(document), None)
        return Statuses(source, rejected=(rejected,))
    items = found if isinstance(found, list) else [] if _is_blank(found) else [found]
    return translate_status_records(items, mapping, feed, source)


def translate_status_records(
    items: Iterable[object], mapping: StatusMapping, feed: FeedSettings, source: str
) -> Statuses:
    """Read records of statuses. No input raises."""
    rejected: list[Rejected] = []
    told: list[EvseStatus] = []
    naive_time_zone = ZoneInfo(feed.naive_time_zone)
    position = -1
    for position, raw in enumerate(items):
        ref = _spelling(raw, mapping.evse_id, position)
        record = _Record(rejected, source, naive_time_zone, "status", raw, raw, ref, lambda: {"level": "status"})
        if not isinstance(raw, dict):
            record.reject(None, f"{_kind(raw)} where an object belongs")
            continue
        try:
            evse_id = record.identity("evse_id", mapping.evse_id)
            word = record.must("status", mapping.status, _word)
            if word is None:
                raise _WrongError(record.field("status", mapping.status), "gives nothing", None)
        except _WrongError as wrong:
            record.reject(wrong.field, wrong.reason)
            continue
        told.append(EvseStatus(evse_id, word, record.time("updated_at", mapping.updated_at), raw))
    return Statuses(source, tuple(told), tuple(rejected), position + 1)


def refs_by_id(assets: Iterable[Asset]) -> dict[str, set[str]]:
    """``evse_id``, case-folded, to the identities that carry it."""
    found: dict[str, set[str]] = {}
    for asset in assets:
        found.setdefault(reference(asset.evse_id), set()).add(asset.evse_ref)
    return found


def join(described: Translated, statuses: Statuses) -> Translated:
    """Put statuses to the EVSEs that are described, by ``evse_id`` in any case.

    A status of an EVSE that nobody describes, or that two carry, is rejected; so is a second word for one EVSE. An EVSE without a status is described and
    absent from ``statuses``. ``evse_count`` is the shorter of both lists: neither may be cut short.
    """
    found, rejected = resolve(statuses, refs_by_id(described.assets))
    joined: dict[str, Status] = {}
    for evse_ref, status in found:
        word, _ = joined.setdefault(evse_ref, (status.word, status.updated_at))
        if word != status.word:
            rejected.append(_reject(statuses, status, f"repeated in the same answer, which said {word} before"))
    return Translated(
        described.assets,
        joined,
        (*described.rejected, *statuses.rejected, *rejected),
        min(described.evse_count, statuses.count),
    )


def resolve(statuses: Statuses, known: MappingOf[str, set[str]]) -> tuple[list[tuple[str, EvseStatus]], list[Rejected]]:
    """Each status with the ``evse_ref`` of its EVSE, in the order told; and those whose EVSE is not known, or not one.

    ``known``: `refs_by_id` of descriptions, or `Batch.evses_by_id` of what is stored.
    """
    found: list[tuple[str, EvseStatus]] = []
    rejected: list[Rejected] = []
    for status in statuses.told:
        refs = known.get(reference(status.evse_id), set())
        if len(refs) == 1:
            found.append((next(iter(refs)), status))
        else:
            reason = f"{len(refs)} EVSEs carry this id" if refs else "this EVSE is not described"
            rejected.append(_reject(statuses, status, reason))
    return found, rejected


def _reject(statuses: Statuses, status: EvseStatus, reason: str) -> Rejected:
    return Rejected(statuses.source, status.evse_id, "evse_id", reason, status.payload, STATUS_CONTEXT)


# What was quarantined


def retranslate(
    payload: str, context: str | None, config: CpoConfig, known: MappingOf[str, set[str]] | None = None
) -> Translated:
    """Read a quarantined record again, by the mapping as it is now. ``known``: `Batch.evses_by_id`, for statuses that stand apart.

    Raises ``ValueError`` when there is nothing to be read again: a note of a field that was left out, or a payload that was cut.
    """
    if context is None:
        raise ValueError("the record was kept; only a field of it was left out")
    try:
        record, around = parse_json(payload.encode()), parse_json(context.encode())
        level = around["level"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the payload or its context cannot be read: {str(error)[:100]}") from error
    feed: Any = config.feed
    source = "quarantine"
    if level == "status":
        statuses = translate_status_records(
            [record], getattr(feed, "status_mapping", None) or feed.messages, feed, source
        )
        found, rejected = resolve(statuses, known or {})
        joined = {evse_ref: (status.word, status.updated_at) for evse_ref, status in found}
        return Translated((), joined, (*statuses.rejected, *rejected), 1)
    mapping: Mapping = feed.mapping
    if level == "document":
        return translate(record, mapping, feed, source)
    if level == "site":
        return translate_records([record], mapping, feed, source)
    read = _Document(mapping, feed, source, ZoneInfo(feed.naive_time_zone), evse_count=1)
    raw_site = around["site"] if "site" in around else around["evse"]
    site = _site(
        read,
        _record(
            read, "site", raw_site, raw_site, _spelling(raw_site, mapping.site.site_id, 0), lambda: {"level": "site"}
        ),
    )
    if site is not None and level == "evse":
        _take_evse(read, site, site.site_id, record, 0)
    elif site is not None:
        _take_evse(read, site, site.site_id, around["evse"], 0, record)
    return _done(read)


Document = Any
"""Parsed JSON, or rows as a list of objects."""
