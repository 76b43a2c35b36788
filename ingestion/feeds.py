"""Which client speaks to which kind of feed. Heavy imports happen only for the kind that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ingestion.config import CpoConfig, OcpiPullFeed, secret
from ingestion.model import Poll, PolledFeed, StreamFeed
from ingestion.stream.pace import Pace
from warehouse.strict_yaml import ConfigError

FindSecret = Callable[[str], str]
"""Value of a secret by its name; raises ``ConfigError`` that names it when there is none."""


@dataclass(frozen=True)
class Stream:
    """What it takes to listen to a feed. ``snapshot`` asks for a list of every EVSE, where the feed has one; it raises ``FeedError``."""

    feed: StreamFeed
    snapshot: Callable[[], Poll] | None = None
    close_snapshot: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Give back connections."""
        self.feed.close()
        self.close_snapshot()


def open_stream(config: CpoConfig, now: Callable[[], datetime], pace: Pace, find_secret: FindSecret = secret) -> Stream:
    """Make the client for a feed that is listened to. Raises ``ConfigError`` for any other."""
    raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not a stream")


def open_polled(config: CpoConfig, find_secret: FindSecret = secret) -> PolledFeed:
    """Make the client for a feed that is asked at intervals. Raises ``ConfigError`` for any other."""
    if isinstance(config.feed, OcpiPullFeed):
        from ingestion.ocpi.pull import OcpiPull

        return OcpiPull(config, find_secret(config.feed.token_secret))
    raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not polled")
