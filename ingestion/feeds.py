"""Which client speaks to which kind of feed. Heavy imports happen only for the kind that is asked for."""

from __future__ import annotations

from collections.abc import Callable

from ingestion.config import CpoConfig, OcpiFeed, secret
from ingestion.model import PolledFeed
from warehouse.strict_yaml import ConfigError

FindSecret = Callable[[str], str]
"""Value of a secret by its name; raises ``ConfigError`` that names it when there is none."""


def open_polled(config: CpoConfig, find_secret: FindSecret = secret) -> PolledFeed:
    """Make the client for a feed that is asked at intervals. Raises ``ConfigError`` for any other."""
    if isinstance(config.feed, OcpiFeed):
        from ingestion.ocpi.pull import OcpiPull

        return OcpiPull(config, config.feed.versions_url, find_secret(config.feed.token_secret))
    raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not polled")
