"""Calling a receiver: OCPI Locations by PUT and PATCH, or batches of observations. A push that failed is not queued, as real senders don't."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field

from simulator.credentials import TIMEOUT_SECONDS, OcpiError, discover, receiver_of, register
from simulator.ocpi_objects import authorization, evse_in, location_in
from simulator.quick import moment_text
from simulator.serving import Feed, Partner
from simulator.sources import Location
from simulator.telling import Follower, Message, Told, record

RETRY_SECONDS = (0.2, 0.5, 1, 2, 5)
"""Pauses before a batch of observations is posted again, with its key; then it is given up."""


class PushOrder(BaseModel):
    """What ``POST /control/<feed>/push`` takes."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["ocpi", "rest"] = "ocpi"
    url: str | None = None
    """OCPI: the receiver's versions (without it, the partner's that is registered). REST: where batches are posted."""
    token: str | None = None
    registers: bool = False
    """OCPI: ``token`` is for registration; the feed registers first."""
    version: Literal["2.1.1", "2.2.1", "2.3.0"] = "2.2.1"
    style: Literal["patch", "put_evse", "put_location"] = "patch"
    """What a change sends: a PATCH of the EVSE, the whole EVSE, or its whole location."""
    puts_first: bool = False
    """OCPI: put every location before the first change."""
    assets_url: str | None = None
    """REST: where descriptions are posted, before the first observations: those of every EVSE."""
    batch_seconds: float = Field(default=0.5, gt=0)
    """REST: how long observations are gathered."""


async def find_receiver(feed: Feed, order: PushOrder, own_url: str) -> Partner:
    """Return who is pushed to by OCPI, registering with it when that is ordered. Raises ``OcpiError``."""
    if order.url is None or order.token is None:
        if feed.partner is None:
            raise OcpiError(2000, "name url and token of the receiver, or register first")
        return feed.partner
    if order.registers:
        return await register(feed, own_url, order.url, order.token, order.version)
    return await discover(order.url, order.token, order.version)


async def push_ocpi(feed: Feed, order: PushOrder, partner: Partner) -> None:
    """Push each change in its moment, until cancelled."""
    base = receiver_of(partner).rstrip("/")
    now = feed.clock()
    follower = Follower(feed, "ocpi_push", now)
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:

        async def send(method: str, path: str, body: dict[str, Any]) -> str:
            # The token may have been exchanged meanwhile.
            token = (feed.partner or partner).their_token if partner.our_token else partner.their_token
            headers = {"Authorization": authorization(partner.version, token), "X-Request-ID": str(uuid.uuid4())}
            try:
                answer = await client.request(method, f"{base}/{path}", json=body, headers=headers)
                return (
                    str(answer.status_code)
                    if answer.is_error
                    else f"{answer.status_code}/{answer.json()['status_code']}"
                )
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                return type(error).__name__

        if order.puts_first:
            for place in feed.locations("ocpi_push", now):
                path = f"{place['country_code']}/{place['party_id']}/{place['id']}"
                await send("PUT", path, location_in(partner.version, place))
        async for messages in follower.messages():
            for message in follower.repeated(messages):
                for told in message.told:
                    record(
                        feed, "ocpi_push", message, await send(*request_for(feed, order.style, partner.version, told))
                    )


def request_for(feed: Feed, style: str, version: str, told: Told) -> tuple[str, str, dict[str, Any]]:
    """Return method, path and body that tell a change."""
    change = told.change
    base = f"{change.party.country_code}/{change.party.party_id}/{change.location_id}"
    updated = {} if told.told_at is None else {"last_updated": moment_text(told.told_at)}
    said = {"status": None if told.bad == "null_status" else told.word, **updated}
    if style == "patch" and told.bad != "without_uid":
        return "PATCH", f"{base}/{change.uid}", evse_in(version, said)
    place = next(
        place
        for place in feed.source.locations(change.at)
        if (place["id"], place["party_id"]) == (change.location_id, change.party.party_id)
    )
    evse = next(evse for evse in place["evses"] if evse["uid"] == change.uid)
    evse |= said
    if told.told_at is None:
        del evse["last_updated"]
    if told.bad == "without_uid":
        del evse["uid"]
    if style == "put_location":
        return "PUT", base, location_in(version, {**place, **updated})
    return "PUT", f"{base}/{change.uid}", evse_in(version, evse)


async def push_rest(feed: Feed, order: PushOrder) -> None:
    """Post what changed in batches, until cancelled; a batch that was not taken is posted again with its key."""
    now = feed.clock()
    follower = Follower(feed, "rest_push", now)
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
        if order.assets_url:
            locations = feed.locations("rest_push", now)
            for body, url in (
                ({"assets": [asset for place in locations for asset in assets(place)]}, order.assets_url),
                ({"observations": [state for place in locations for state in states(place)]}, order.url or ""),
            ):
                await post(client, order, url, body, str(uuid.uuid4()))
        while True:
            await asyncio.sleep(order.batch_seconds)
            told = [one for message in follower.due(feed.clock()) for one in message.told]
            if not told:
                continue
            batch = Message(told, told[-1].change.at)
            key, body = str(uuid.uuid4()), {"observations": [observation(told) for told in batch.told]}
            record(feed, "rest_push", batch, await post(client, order, order.url or "", body, key))
            if again := feed.board.spoils("duplicate", "rest_push"):
                key = key if again.variant == "same_key" else str(uuid.uuid4())
                record(feed, "rest_push", batch, await post(client, order, order.url or "", body, key))


async def post(client: httpx.AsyncClient, order: PushOrder, url: str, body: dict[str, Any], key: str) -> str:
    """Post one batch, again and again with the same key while the receiver is away or busy; return how it ended."""
    headers = {"Authorization": f"Bearer {order.token}", "Idempotency-Key": key}
    outcome = ""
    for pause in (0, *RETRY_SECONDS):
        await asyncio.sleep(pause)
        try:
            answer = await client.post(url, json=body, headers=headers)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
            continue
        outcome = str(answer.status_code)
        if answer.status_code != 429 and not answer.is_server_error:
            break
    return outcome


def observation(told: Told) -> dict[str, Any]:
    """Write a change as an observation."""
    location_id, uid = told.ids()
    written = {"site_id": location_id, "evse_id": uid, "status": told.word}
    if told.told_at is not None:
        written["observed_at"] = moment_text(told.told_at)
    if told.bad == "null_status":
        written["status"] = None
    elif told.bad:
        del written["evse_id"]
    return written


def assets(place: Location) -> list[dict[str, Any]]:
    """Describe a location's connectors, a record each."""
    coordinates = place["coordinates"]
    site = {
        "site_id": place["id"],
        "site_name": place["name"],
        "address": place["address"],
        "suburb": place["city"],
        "postcode": place["postal_code"],
        "state": place["state"],
        "country": place["country"],
        "latitude": coordinates["latitude"],
        "longitude": coordinates["longitude"],
        "time_zone": place["time_zone"],
    }
    return [
        site
        | {"evse_id": evse["uid"], "emi3_id": evse["evse_id"], "connector_id": connector["id"]}
        | {
            "connector_standard": connector["standard"],
            "power_kw": connector.get("max_electric_power", 0) / 1000 or None,
        }
        for evse in place["evses"]
        for connector in evse["connectors"]
    ]


def states(place: Location) -> list[dict[str, Any]]:
    """Write the present states of a location's EVSEs as observations."""
    return [
        {"site_id": place["id"], "evse_id": evse["uid"], "status": evse["status"], "observed_at": evse["last_updated"]}
        for evse in place["evses"]
    ]
