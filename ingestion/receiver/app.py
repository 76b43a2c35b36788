"""The receiver: one process that CPOs call. ``/ocpi`` for OCPI, ``/v1`` for JSON of our own, ``/health``, ``/docs``."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg
import uvicorn
from fastapi import FastAPI, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ingestion.config import OcpiPushFeed
from ingestion.receiver.commit import AskForFullList, Committer, UnavailableError
from ingestion.receiver.feeds import PushFeeds
from ingestion.receiver.ocpi import Ocpi
from ingestion.receiver.page import add_pages
from ingestion.receiver.rest import add_rest
from ingestion.receiver.web import RETRY_AFTER_SECONDS, Tokens, utc_now
from warehouse.connection import Role, connect

LOG = logging.getLogger("ingestion.receiver")

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays: a push over one that we just closed would be lost, since senders do not repeat it."""

Open = Callable[[], psycopg.Connection]


class Receiver:
    """The ASGI application. ``open_connection`` and ``now`` are for tests."""

    def __init__(
        self, open_connection: Open = lambda: connect(Role.INGEST), now: Callable[[], datetime] = utc_now
    ) -> None:
        self._open, self._now = open_connection, now
        self._feeds = PushFeeds()
        self._tokens = Tokens(open_connection)
        self._committer: Committer | None = None
        self._rest = self._make_rest()
        self._ocpi: ASGIApp = Ocpi(self._feeds, self._tokens, self._running, now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # OCPI's paths hold escaped slashes, which a router would not see.
        is_ocpi = scope["type"] == "http" and scope["path"][:6].casefold() in ("/ocpi", "/ocpi/")
        await (self._ocpi if is_ocpi else self._rest)(scope, receive, send)

    def _running(self) -> Committer:
        assert self._committer is not None
        return self._committer

    def _make_rest(self) -> FastAPI:
        app = FastAPI(
            title="Charge@Large receiver",
            version="1",
            description="What a CPO posts about its chargers. OCPI platforms use `/ocpi/versions` instead.",
            docs_url=None,
            redoc_url=None,
            lifespan=self._lifespan,
        )

        @app.get("/health", summary="Whether what is sent now can be stored")
        async def health() -> Response:
            is_well = self._tokens.is_database_there
            found = {"status": "healthy" if is_well else "no database", "waiting": self._running().waiting}
            return Response(json.dumps(found), 200 if is_well else 503, media_type="application/json")

        add_rest(app, self._feeds, self._tokens, self._running, self._now)
        add_pages(app)
        return app

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self._committer = Committer(self._open)
        await self._tokens.refresh()
        tasks = [asyncio.create_task(self._tokens.keep_fresh()), asyncio.create_task(self._ask_for_full_lists())]
        for task in tasks:
            task.add_done_callback(_must_not_fail)
        LOG.info("receiving for %s", ", ".join(sorted(self._feeds.all())) or "no feed yet")
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await self._committer.close()
            self._tokens.close()

    async def _ask_for_full_lists(self) -> None:
        """What was pushed while nobody received is to be asked for."""
        for config in list(self._feeds.all().values()):
            while isinstance(config.feed, OcpiPushFeed):
                try:
                    await self._running().submit(config, AskForFullList(self._now()))
                    break
                except UnavailableError:
                    await asyncio.sleep(RETRY_AFTER_SECONDS)


def _must_not_fail(task: asyncio.Task[None]) -> None:
    """Without its tasks a receiver would go on with tokens of long ago: end it, so that it is started anew."""
    if not task.cancelled() and task.exception() is not None:
        LOG.critical("a task failed, the receiver ends", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)


def log_settings() -> dict[str, Any]:
    """Our own lines and uvicorn's, without one per request: a URL is the sender's to choose, and might hold anything."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            "ingestion.receiver": {"handlers": ["out"], "level": "INFO", "propagate": False},
            "uvicorn": {"handlers": ["out"], "level": "INFO", "propagate": False},
        },
    }


def serve(host: str, port: int) -> None:
    """Receive until SIGTERM or Ctrl-C; what was accepted is written first."""
    uvicorn.run(
        Receiver(),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        server_header=False,
        log_config=log_settings(),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )
