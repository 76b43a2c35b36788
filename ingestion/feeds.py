"""Which client speaks to which kind of feed. Heavy imports happen only for the kind that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ingestion.config import (
    AssetsRequest,
    CpoConfig,
    HistoryFeed,
    OcpiFeed,
    Request,
    RestPullFeed,
    RestPushFeed,
    StreamSettings,
    WebSocketFeed,
    secret,
)
from ingestion.model import Poll, PolledFeed, StreamFeed, Translated
from ingestion.settings import FeedSettings
from ingestion.stream.pace import Pace
from warehouse.strict_yaml import ConfigError

FindSecret = Callable[[str], str]
"""Value of a secret by its name; raises ``ConfigError`` that names it when there is none."""


@dataclass(frozen=True)
class Stream:
    """What it takes to listen to a feed. ``snapshot`` asks for a list of every EVSE, ``describe`` for what they are, where the feed has such
    lists; both raise ``FeedError``."""

    feed: StreamFeed
    snapshot: Callable[[], Poll] | None = None
    describe: Callable[[], Translated] | None = None
    close_list: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Give back connections."""
        self.feed.close()
        self.close_list()


def open_stream(config: CpoConfig, now: Callable[[], datetime], pace: Pace, find_secret: FindSecret = secret) -> Stream:
    """Make the client for a feed that is listened to. Raises ``ConfigError`` for any other."""
    if not isinstance(config.feed, StreamSettings):
        raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not a stream")
    from ingestion.http import HttpTransport
    from ingestion.rest.credentials import Credentials

    transport = HttpTransport()
    credentials = Credentials(config.feed.auth, find_secret, transport)
    feed: StreamFeed
    if isinstance(config.feed, WebSocketFeed):
        from ingestion.stream.websocket import WebSocketStream

        feed = WebSocketStream(config.feed, credentials, transport, now, pace)
    else:
        from ingestion.stream.sse import SseStream

        feed = SseStream(config.feed, credentials, transport, now, pace)
    if config.feed.descriptions is not None:
        from ingestion.rest.pull import Descriptions

        assert config.feed.mapping is not None
        described = Descriptions(config.feed, config.feed.descriptions, config.feed.mapping, find_secret)
        return Stream(feed, describe=described.read, close_list=described.close)
    if config.feed.snapshot is None:
        return Stream(feed)
    listing = open_polled(_as_polled(config, config.feed, config.feed.snapshot), find_secret)

    def snapshot() -> Poll:
        listing.forget()
        return listing.poll()

    return Stream(feed, snapshot, close_list=listing.close)


def _as_polled(config: CpoConfig, feed: StreamSettings, request: Request) -> CpoConfig:
    """The same CPO, asked for the list that its stream's snapshot is."""
    assert feed.mapping is not None
    shared = {name: getattr(feed, name) for name in FeedSettings.model_fields}
    polled = RestPullFeed(
        kind="rest_pull",
        poll_seconds=1,
        auth=feed.auth,
        assets=AssetsRequest(**dict(request)),
        mapping=feed.mapping,
        **shared,
    )
    return config.model_copy(update={"feed": polled})


def open_polled(config: CpoConfig, find_secret: FindSecret = secret) -> PolledFeed:
    """Make the client for a feed that is asked at intervals. Raises ``ConfigError`` for any other."""
    if isinstance(config.feed, OcpiFeed):
        from ingestion.ocpi.pull import OcpiPull

        return OcpiPull(config, *_ocpi_access(config, config.feed, find_secret))
    if isinstance(config.feed, RestPullFeed):
        from ingestion.rest.pull import RestPull

        return RestPull(config, find_secret)
    raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not polled")


def _ocpi_access(config: CpoConfig, feed: OcpiFeed, find_secret: FindSecret) -> tuple[str, str]:
    """Versions URL and token: of the registration if there is one, else of the CPO's file."""
    from ingestion.access import partner_of
    from warehouse.connection import Role, WarehouseNotFoundError, connect

    try:
        with connect(Role.INGEST) as connection:
            partner = partner_of(connection, config.cpo_id, find_secret)
    except WarehouseNotFoundError:
        # A feed may be tried before there is a warehouse; nobody has registered there.
        partner = None
    if partner is not None:
        return partner.versions_url, partner.token
    if feed.token_secret is None:
        raise ConfigError(
            f"{config.cpo_id}: there is no registration yet, and feed.token_secret names no token (see docs/push.md)"
        )
    return feed.versions_url, find_secret(feed.token_secret)


def retranslate(payload: str, context: str | None, config: CpoConfig, known: Mapping[str, set[str]]) -> Translated:
    """Read a quarantined record again by the feed's present settings. Raises ``ValueError`` when that can't be done.

    ``known``: which EVSEs carry an id (`Batch.evses_by_id`).
    """
    if isinstance(config.feed, OcpiFeed):
        from ingestion.ocpi.translate import retranslate as retranslate_ocpi

        return retranslate_ocpi(payload, context, config)
    if isinstance(config.feed, HistoryFeed | RestPushFeed):
        raise ValueError("mend the record and hand it over again: what went in already is not stored twice")
    from ingestion.mapping import retranslate as retranslate_mapped

    return retranslate_mapped(payload, context, config, known)
