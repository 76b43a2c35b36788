"""Every protocol over one world: OCPI, REST, WebSocket, Server-Sent Events, pushes and files, with faults that can be switched on while it runs.

Statuses are those of now. The named faults of EVSEs happen here too; the gaps and absences of the history do not: they are what
``POST /control/<feed>/fault`` is for. Any feed can be had in any protocol:

* ``/<feed>/ocpi/versions``: OCPI 2.1.1, 2.2.1, 2.3.0, with credentials and deltas;
* ``/<feed>/rest/<paging>/<list>`` and ``/<feed>/oauth/token``: JSON of its own making;
* ``/<feed>/ws``, ``/<feed>/sse``: changes as they happen;
* ``POST /control/<feed>/push`` and ``/drop``: changes and files sent from here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from simulator import control, credentials, live, ocpi, rest
from simulator.serving import PAGE_CAP, Clock, Feed, utc_now
from simulator.sources import Replay, Source, WorldSource

__all__ = ["Replay", "Source", "WorldSource", "build_app", "serve_in_thread", "server_config"]

PING_SECONDS = 5
"""How often a WebSocket is pinged; a pong that is missing ends nothing."""


def build_app(
    sources: Mapping[str, Source], tokens: Mapping[str, str], clock: Clock = utc_now, page_cap: int = PAGE_CAP
) -> FastAPI:
    """Build the server; ``tokens`` has one per source."""
    feeds = {name: Feed(name, source, tokens[name], clock, page_cap) for name, source in sources.items()}
    app = FastAPI(openapi_url=None)
    app.state.feeds = feeds

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "feeds": list(feeds)}

    for protocol in (control, ocpi, credentials, rest, live):
        app.include_router(protocol.router(feeds))
    return app


def server_config(app: FastAPI, **settings: Any) -> uvicorn.Config:
    """Return how the app is served: its WebSockets can be half open."""
    return uvicorn.Config(
        app,
        ws=live.websocket_protocol(app.state.feeds),
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=None,
        lifespan="off",
        # A line per request would hold the query, which may hold a token.
        access_log=False,
        **settings,
    )


@contextmanager
def serve_in_thread(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve on 127.0.0.1 (a free port unless told one) while the block runs; gives the base URL.

    Raises ``RuntimeError`` when the server does not come up within 20 seconds.
    """
    server = uvicorn.Server(
        server_config(app, host="127.0.0.1", port=port, log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, name="simulator", daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError(f"the simulator did not start on port {port}")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
