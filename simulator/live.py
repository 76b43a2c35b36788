"""Changes over a connection that the observer holds: WebSocket and Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from simulator.quick import moment_text
from simulator.rest import is_let_in, refuse, station
from simulator.serving import Feed, feed_of, party_text
from simulator.telling import Follower, Told, record

SUBSCRIBE_SECONDS = 10
"""How long a WebSocket waits for the message that subscribes."""

HEARTBEAT_SECONDS = 5
RESUME_LIMIT = timedelta(hours=1)

_BOMB = "[" * 100_000 + "]" * 100_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def router(feeds: Mapping[str, Feed]) -> APIRouter:
    """Make the routes ``/x/ws`` and ``/x/sse``; authentication as for REST."""
    routes = APIRouter()

    @routes.websocket("/{name}/ws")
    async def held(socket: WebSocket, name: str) -> None:
        feed = feed_of(feeds, name)
        if denied := await feed.refuse("websocket"):
            await socket.send_denial_response(denied)
        elif not is_let_in(feed, "websocket", socket.headers, socket.query_params):
            await socket.send_denial_response(Response("unauthorized", 401))
        else:
            await socket.accept((socket.scope["subprotocols"] or [None])[0])
            generation = feed.generations["websocket"]
            if subscription := await _subscription(socket, feed):
                await _serve(socket, feed, subscription, generation)

    @routes.get("/{name}/sse")
    async def events(
        name: str,
        request: Request,
        snapshot: bool = False,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        feed = feed_of(feeds, name)
        if refused := await refuse(feed, "sse", request):
            return refused
        since = None if feed.board.spoils("no_resume", "sse") else _resumed(last_event_id, feed.clock())
        return StreamingResponse(
            _events(feed, since, snapshot), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    return routes


async def _subscription(socket: WebSocket, feed: Feed) -> dict[str, Any] | None:
    """Wait for ``{"action": "subscribe", "snapshot": true}``; anything else ends the connection."""
    try:
        async with asyncio.timeout(SUBSCRIBE_SECONDS):
            message = json.loads(await socket.receive_text())
    except WebSocketDisconnect:
        return None
    except (TimeoutError, ValueError, KeyError):
        message = None
    if isinstance(message, dict) and message.get("action") == "subscribe":
        return message
    await socket.close(1008, "subscribe first")
    return None


async def _serve(socket: WebSocket, feed: Feed, subscription: dict[str, Any], generation: int) -> None:
    now = feed.clock()
    follower = Follower(feed, "websocket", now)
    leaving = asyncio.create_task(_left(socket))
    try:
        await socket.send_text(json.dumps({"type": "subscribed", "at": moment_text(now)}))
        if subscription.get("snapshot"):
            await socket.send_text(json.dumps(_snapshot(feed, "websocket", now)))
        async for messages in follower.messages():
            if leaving.done():
                return
            if feed.generations["websocket"] != generation or feed.board.spoils("disconnect", "websocket"):
                await socket.close(feed.close_code, "going away")
                return
            for message in follower.repeated(messages):
                if feed.board.spoils("depth_bomb", "websocket"):
                    await socket.send_text(_BOMB)
                await socket.send_text(
                    json.dumps({"type": "status", "updates": [update(told) for told in message.told]})
                )
                record(feed, "websocket", message)
    except WebSocketDisconnect:
        return
    finally:
        leaving.cancel()


async def _left(socket: WebSocket) -> None:
    """Return when the other side is gone; what it says is disregarded."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _events(feed: Feed, since: datetime | None, snapshot: bool) -> AsyncIterator[bytes]:
    generation, now = feed.generations["sse"], feed.clock()
    follower = Follower(feed, "sse", since or now)
    yield b"retry: 200\n\n"
    if snapshot and since is None:
        yield _event(_snapshot(feed, "sse", now), now)
    quiet_since = now
    async for messages in follower.messages():
        if feed.generations["sse"] != generation or feed.board.spoils("disconnect", "sse"):
            return
        for message in follower.repeated(messages):
            if feed.board.spoils("depth_bomb", "sse"):
                yield b"data: " + _BOMB.encode() + b"\n\n"
            yield _event({"type": "status", "updates": [update(told) for told in message.told]}, message.resume_at)
            record(feed, "sse", message)
        if feed.clock() - quiet_since >= timedelta(seconds=HEARTBEAT_SECONDS):
            quiet_since = feed.clock()
            yield b": still here\n\n"


def update(told: Told) -> dict[str, Any]:
    """Write a told change in the names of the REST lists."""
    location_id, uid = told.ids()
    written = {"network": party_text(told.change.party), "station": location_id, "ref": uid, "state": told.word}
    if told.told_at is not None:
        written["changed"] = moment_text(told.told_at)
    if told.bad == "null_status":
        written["state"] = None
    elif told.bad:
        del written["ref"]
    return written


def _snapshot(feed: Feed, protocol: str, now: datetime) -> dict[str, Any]:
    stations = [station(place) for place in feed.locations(protocol, now)]
    return {"type": "snapshot", "at": moment_text(now), "stations": stations}


def _event(message: dict[str, Any], resume_at: datetime) -> bytes:
    """Write an event whose id says from where to go on: milliseconds since 1970."""
    number = (resume_at - _EPOCH) // timedelta(milliseconds=1)
    return f"id: {number}\nevent: {message['type']}\ndata: {json.dumps(message)}\n\n".encode()


def _resumed(last_event_id: str | None, now: datetime) -> datetime | None:
    if not last_event_id or not last_event_id.isdigit():
        return None
    since = _EPOCH + timedelta(milliseconds=int(last_event_id))
    return since if now - RESUME_LIMIT <= since <= now else None


def websocket_protocol(feeds: Mapping[str, Feed]) -> type[asyncio.Protocol]:
    """Make the server's WebSocket connection, which is deaf and dumb while its feed is half open."""

    class Connection(WebSocketsSansIOProtocol):
        def _is_half_open(self) -> bool:
            name = self.scope["path"].split("/")[1] if self.handshake_complete else ""
            return name in feeds and feeds[name].board.is_on("half_open")

        def data_received(self, data: bytes) -> None:
            if not self._is_half_open():
                super().data_received(data)

        def send_keepalive_ping(self) -> None:
            if self._is_half_open():
                self.schedule_ping()
            else:
                super().send_keepalive_ping()

    return Connection
