"""``/v1``: observations and descriptions that a CPO posts as JSON, with a verdict for each record.

A batch is answered after it is committed. With an ``Idempotency-Key`` the answer is kept in the same transaction: the same request under the same key gets the
same answer and is not taken again, also after a crash.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ingestion.batch import Batch
from ingestion.config import CpoConfig, RestPushFeed
from ingestion.model import Asset, Message, Poll, Rejected, Told, reference
from ingestion.receiver.commit import Committer, Documents, Place, UnavailableError
from ingestion.receiver.feeds import LOG, PushFeeds
from ingestion.receiver.locations import Refuse
from ingestion.receiver.web import (
    MAX_BODY_BYTES,
    RETRY_AFTER_SECONDS,
    BodyTooLargeError,
    SenderGoneError,
    Tokens,
    headers_of,
    parse_body,
    read_body,
)
from ingestion.records import ASSET_COLUMNS, asset_of, start_of_day
from ingestion.times import FUTURE_SKEW, is_time_zone
from ingestion.values import parse_timestamp
from ingestion.writer import Writer

MAX_RECORDS = 10_000
"""Records of one batch."""

MAX_KEY_LENGTH = 255
"""Characters of an ``Idempotency-Key``."""

_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}")

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern="^[^\x00]*$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000, pattern="^[^\x00]*$")]


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)


Model = TypeVar("Model", bound=_Record)


class Observation(_Record):
    """The state of one EVSE."""

    evse_id: Word = Field(description="As in the EVSE's description, whatever its letter case.")
    status: Word = Field(description="Your own word; we agree once on what each means.")
    observed_at: Text | None = Field(
        None,
        description="ISO 8601: when it became true. Without it: when we received it.",
        examples=["2026-10-01T08:30:00Z"],
    )
    site_id: Word | None = Field(None, description="Needed only where the same evse_id stands at several sites.")


class Description(_Record):
    """One connector, with its EVSE, charger and site. A further field is kept as it is."""

    model_config = ConfigDict(coerce_numbers_to_str=True, extra="allow")

    site_id: Word
    evse_id: Word
    connector_id: Word
    charger_id: Text | None = Field(None, description="The physical unit; without it each EVSE is its own.")
    site_name: Text | None = None
    address: Text | None = None
    suburb: Text | None = None
    postcode: Text | None = None
    state: Text | None = None
    country: Text | None = None
    latitude: Text | None = None
    longitude: Text | None = None
    time_zone: Text | None = Field(None, description="IANA name.", examples=["Australia/Sydney"])
    emi3_id: Text | None = None
    connector_standard: Text | None = None
    power_kw: Text | None = Field(None, description="Rated power in kW.")
    commissioned_on: Text | None = Field(None, description="ISO 8601 date.")
    valid_from: Text | None = Field(
        None, description="ISO 8601: since when this is so. Without it: since we received it."
    )


class Observations(BaseModel):
    """A batch. An empty one shows that you are there."""

    observations: list[Observation] = Field(max_length=MAX_RECORDS)
    is_complete: bool = Field(
        False, description="It tells the state of every EVSE: one that is not in it is not known any more from now on."
    )


class Descriptions(BaseModel):
    """A batch of descriptions, one per connector. What is not in it stays as it was."""

    assets: list[Description] = Field(max_length=MAX_RECORDS)


class Verdict(BaseModel):
    """What became of one record, in the order of the batch."""

    verdict: str = Field(description="`accepted`, or `quarantined`: kept for a person to look at, and not used.")
    field: str | None = None
    reason: str | None = None
    notes: list[str] | None = Field(None, description="What of an accepted record could not be used as it was sent.")


class Answer(BaseModel):
    """What became of a batch."""

    received_at: str
    accepted: int
    quarantined: int
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Reply:
    """HTTP status, body, and headers."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class UnusableRecordError(Exception):
    """A record that cannot be taken: which field, and why."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class Read:
    """What a batch says, a verdict for each record, and, where it tells the state of every EVSE, that as a poll."""

    message: Message
    verdicts: list[dict[str, Any]]
    snapshot: Poll | None = None


@dataclass
class PostedBatch(ABC):
    """One batch (a `commit.Job`); ``body`` as it was sent."""

    config: CpoConfig
    source: str
    records: list[Any]
    body: bytes
    received_at: datetime
    idempotency_key: str | None
    places: tuple[Place, ...] = ()
    is_contact: bool = True
    _zone: ZoneInfo = field(init=False)
    _snapshot: Poll | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._zone = ZoneInfo(self.config.feed.naive_time_zone)

    @property
    def size(self) -> int:
        return len(self.body)

    def take(self, batch: Batch, documents: Documents) -> tuple[Message | None, Reply]:
        """The batch as a message, and the answer; the answer alone when it was given before."""
        self._snapshot = None
        digest = hashlib.sha256(self.source.encode() + b"\n" + self.body).digest()
        if self.idempotency_key is not None and (known := batch.receipt(self.idempotency_key)):
            if known[0] != digest:
                return None, Reply(422, {"error": "this Idempotency-Key was used for another request"})
            return None, Reply(200, known[1], {"Idempotent-Replayed": "true"})
        read = self._read(batch)
        self._snapshot = read.snapshot
        answer = {
            "received_at": self.received_at.isoformat().replace("+00:00", "Z"),
            "accepted": sum(verdict["verdict"] == "accepted" for verdict in read.verdicts),
            "quarantined": sum(verdict["verdict"] == "quarantined" for verdict in read.verdicts),
            "verdicts": read.verdicts,
        }
        if self.idempotency_key is not None:
            batch.keep_receipt(self.idempotency_key, digest, answer, self.received_at)
        return read.message, Reply(200, answer)

    def finish(self, writer: Writer) -> None:
        if self._snapshot is not None:
            writer.write_poll(self._snapshot, self.received_at, self.received_at)

    @abstractmethod
    def _read(self, batch: Batch) -> Read:
        """Read the records, each for itself."""

    def _reject(self, position: int, record: Any, error: UnusableRecordError) -> tuple[Rejected, dict[str, Any]]:
        name = record.get("evse_id") if isinstance(record, dict) else None
        record_ref = str(name) if isinstance(name, str | int) else f"#{position}"
        rejected = Rejected(self.source, record_ref, error.field, error.reason, json.dumps(record, ensure_ascii=False))
        return rejected, {"verdict": "quarantined", "field": error.field, "reason": error.reason}

    def _time(self, name: str, text: str) -> datetime:
        try:
            if not _DATE.fullmatch(text):
                return parse_timestamp(text, self._zone)
        except ValueError:
            pass
        raise UnusableRecordError(name, f"'{text[:100]}' is not an ISO 8601 time")


@dataclass
class PostedObservations(PostedBatch):
    """States of EVSEs. ``is_complete``: of all that the feed has."""

    is_complete: bool = False

    def _read(self, batch: Batch) -> Read:
        read: list[tuple[Any, Observation | UnusableRecordError]] = [
            (record, _checked(Observation, record)) for record in self.records
        ]
        asked = {found.evse_id for _, found in read if isinstance(found, Observation)}
        by_id = batch.evses_by_id(asked) if asked else {}
        told, rejected, verdicts = [], [], []
        for position, (record, found) in enumerate(read):
            try:
                if isinstance(found, UnusableRecordError):
                    raise found
                told.append(self._told(record, found, by_id))
            except UnusableRecordError as error:
                refused, verdict = self._reject(position, record, error)
                rejected.append(refused)
                verdicts.append(verdict)
            else:
                verdicts.append(self._accepted(told[-1]))
        message = Message(self.source, told=tuple(told), rejected=tuple(rejected))
        return Read(message, verdicts, self._as_poll(told) if self.is_complete and told else None)

    def _as_poll(self, told: list[Told]) -> Poll:
        states: dict[str, tuple[datetime, str, datetime | None]] = {}
        for one in told:
            at = self._plausible(one)
            if one.evse_ref not in states or states[one.evse_ref][0] <= at:
                states[one.evse_ref] = (at, one.status_word, one.observed_at)
        return Poll(
            body_sha256=hashlib.sha256(self.body).digest(),
            statuses={evse_ref: (word, updated_at) for evse_ref, (_, word, updated_at) in states.items()},
        )

    def _told(self, record: Any, found: Observation, by_id: dict[str, set[str]]) -> Told:
        refs = by_id.get(found.evse_id.casefold(), set())
        if found.site_id is not None:
            refs = refs & {reference(found.site_id, found.evse_id)}
        if not refs:
            where = f" at site '{found.site_id}'" if found.site_id else ""
            raise UnusableRecordError("evse_id", f"'{found.evse_id}'{where} is not described yet")
        if len(refs) > 1:
            raise UnusableRecordError("evse_id", f"'{found.evse_id}' stands at several sites: name its site_id")
        observed_at = self._time("observed_at", found.observed_at) if found.observed_at else None
        return Told(next(iter(refs)), found.status, observed_at, json.dumps(record, ensure_ascii=False))

    def _plausible(self, told: Told) -> datetime:
        at = told.observed_at or self.received_at
        return at if at <= self.received_at + FUTURE_SKEW else self.received_at

    def _accepted(self, told: Told) -> dict[str, Any]:
        if told.observed_at is not None and self._plausible(told) != told.observed_at:
            return {"verdict": "accepted", "notes": ["observed_at is in the future: taken as of its receipt"]}
        return {"verdict": "accepted"}


@dataclass
class PostedDescriptions(PostedBatch):
    """Descriptions of connectors."""

    def _read(self, batch: Batch) -> Read:
        assets: dict[tuple[str, str], Asset] = {}
        rejected, verdicts = [], []
        for position, record in enumerate(self.records):
            notes: list[tuple[str, str]] = []
            try:
                asset = self._asset(record, notes)
            except UnusableRecordError as error:
                refused, verdict = self._reject(position, record, error)
                rejected.append(refused)
                verdicts.append(verdict)
                continue
            assets[asset.evse_ref, asset.connector_ref] = asset
            verdict = {"verdict": "accepted"}
            if notes:
                verdict["notes"] = [f"{name}: {reason}" for name, reason in notes]
                rejected += [self._reject(position, record, UnusableRecordError(*note))[0] for note in notes]
            verdicts.append(verdict)
        message = Message(self.source, assets=tuple(assets.values()), rejected=tuple(rejected), is_whole_evse=False)
        return Read(message, verdicts)

    def _asset(self, record: Any, notes: list[tuple[str, str]]) -> Asset:
        found = _checked(Description, record)
        if isinstance(found, UnusableRecordError):
            raise found
        texts = {name: "" for name in ASSET_COLUMNS} | {
            name: text for name in Description.model_fields if isinstance(text := getattr(found, name), str)
        }
        zone = texts["time_zone"] or self.config.feed.time_zone or ""
        if not is_time_zone(zone):
            raise UnusableRecordError("time_zone", f"'{zone}' is not an IANA time zone")
        valid_from = None
        if since := texts.pop("valid_from", ""):
            valid_from = start_of_day(since, zone) if _DATE.fullmatch(since) else self._time("valid_from", since)
            if valid_from is None:
                raise UnusableRecordError("valid_from", f"'{since}' is not a date")
        asset = asset_of(texts, zone, valid_from, lambda name, reason: notes.append((name, reason)))
        return replace(
            asset, attributes={name: value for name, value in (found.model_extra or {}).items() if value is not None}
        )


def _checked(model: type[Model], record: Any) -> Model | UnusableRecordError:
    if not isinstance(record, dict):
        return UnusableRecordError(None, "is not an object")
    try:
        return model.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else None
        reason = "is missing" if first["type"] == "missing" else first["msg"]
        return UnusableRecordError(name, reason)


class Rest:
    """The two endpoints: what they share of reading a request and answering it."""

    def __init__(
        self, feeds: PushFeeds, tokens: Tokens, committer: Callable[[], Committer], now: Callable[[], datetime]
    ) -> None:
        self._feeds, self._tokens, self._committer, self._now = feeds, tokens, committer, now

    async def post(self, request: Request, key: str, make: Callable[..., PostedBatch]) -> Response:
        """Take one batch: the records under ``key`` of the body, made a job by ``make``."""
        try:
            reply = await self._reply(request, key, make)
        except BodyTooLargeError:
            text = f"the body is longer than {MAX_BODY_BYTES} bytes: send fewer records at once"
            reply = Reply(413, {"error": text}, {"Connection": "close"})
        except SenderGoneError:
            return Response(status_code=400)
        except UnavailableError as error:
            reply = Reply(
                503, {"error": f"not stored: {error}; try again later"}, {"Retry-After": str(RETRY_AFTER_SECONDS)}
            )
        except Exception as error:  # noqa: BLE001 - the sender must be told that nothing was stored
            LOG.error("POST %s: %s", request.url.path, type(error).__name__)
            reply = Reply(500, {"error": "not stored: our own failure"})
        # Sorted, so that an answer that is given again has the same bytes.
        body = json.dumps(reply.body, ensure_ascii=False, sort_keys=True)
        return Response(body, reply.status, dict(reply.headers), "application/json")

    async def _reply(self, request: Request, key: str, make: Callable[..., PostedBatch]) -> Reply:
        now = self._now()
        headers = headers_of(request.scope)
        grant = await self._tokens.verify(headers, now)
        config = self._feeds.get(grant.feed_id) if grant else None
        if grant is None or grant.purpose != "send" or config is None or not isinstance(config.feed, RestPushFeed):
            return Reply(401, {"error": "the token is not good here"}, {"WWW-Authenticate": "Bearer"})
        idempotency_key = request.headers.get("idempotency-key")
        if idempotency_key is not None and not (
            0 < len(idempotency_key) <= MAX_KEY_LENGTH and idempotency_key.isprintable()
        ):
            return Reply(400, {"error": f"Idempotency-Key: must be 1 to {MAX_KEY_LENGTH} printable characters"})
        body = await read_body(headers, request.receive)
        source = request.url.path
        try:
            found = parse_body(body)
        except ValueError as error:
            return await self._refuse(config, source, None, f"not JSON: {error}", body, now)
        if not isinstance(found, dict) or not isinstance(found.get(key), list):
            return await self._refuse(config, source, key, "is missing or not a list", body, now)
        records = found.pop(key)
        settings = {"is_complete": found.pop("is_complete", False)} if key == "observations" else {}
        if found:
            return await self._refuse(config, source, next(iter(found)), "is not known here", body, now)
        if not isinstance(settings.get("is_complete", False), bool):
            return await self._refuse(config, source, "is_complete", "is neither true nor false", body, now)
        if not records and settings.get("is_complete"):
            return await self._refuse(config, source, key, "an empty list is no complete one", body, now)
        if len(records) > MAX_RECORDS:
            return Reply(413, {"error": f"{len(records)} records are more than {MAX_RECORDS}: send fewer at once"})
        job = make(config, source, records, body, now, idempotency_key, **settings)
        reply: Reply = await self._committer().submit(config, job)
        return reply

    async def _refuse(
        self, config: CpoConfig, source: str, name: str | None, reason: str, body: bytes, now: datetime
    ) -> Reply:
        text = body.decode("utf-8", "replace")
        answer = Reply(400, {"error": f"{name}: {reason}" if name else reason})
        refusal = Refuse(Rejected(source, "body", name, reason, text), answer, now)
        reply: Reply = await self._committer().submit(config, refusal)
        return reply


_HEADERS = [
    {
        "name": "Authorization",
        "in": "header",
        "required": True,
        "schema": {"type": "string"},
        "description": "`Bearer <token>`",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": MAX_KEY_LENGTH},
        "description": "The same key and body are answered as the first time, and not taken again.",
    },
]
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Stored; a verdict for each record, in order.", "model": Answer},
    400: {"description": "The body is not such a batch. It was kept for a person to look at."},
    401: {"description": "The token is not good."},
    413: {"description": f"More than {MAX_RECORDS} records or {MAX_BODY_BYTES} bytes: send fewer at once."},
    422: {"description": "The Idempotency-Key was used for another request."},
    500: {"description": "Not stored: our own failure."},
    503: {"description": "Not stored: try again after Retry-After seconds."},
}


def _documented(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs")
    return {
        "parameters": _HEADERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }


def add_rest(
    app: FastAPI,
    feeds: PushFeeds,
    tokens: Tokens,
    committer: Callable[[], Committer],
    now: Callable[[], datetime],
) -> None:
    """Add the endpoints of ``/v1``."""
    rest = Rest(feeds, tokens, committer, now)

    @app.post(
        "/v1/observations",
        summary="States of EVSEs",
        responses=_RESPONSES,
        openapi_extra=_documented(Observations),
    )
    async def observations(request: Request) -> Response:
        return await rest.post(request, "observations", PostedObservations)

    @app.post(
        "/v1/assets",
        summary="Descriptions of connectors, with their EVSE, charger and site",
        responses=_RESPONSES,
        openapi_extra=_documented(Descriptions),
    )
    async def assets(request: Request) -> Response:
        return await rest.post(request, "assets", PostedDescriptions)


def record_schemas() -> dict[str, Any]:
    """Schemas of the records, for the OpenAPI document."""
    return {
        model.__name__: model.model_json_schema(ref_template="#/components/schemas/{model}")
        for model in (Observation, Description)
    }
