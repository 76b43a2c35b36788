"""Which client speaks to which kind of feed. Heavy imports happen only for the kind that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ingestion.config import CpoConfig, HistoryFeed, OcpiFeed, RestPullFeed, RestPushFeed, secret
from ingestion.model import PolledFeed, Translated
from warehouse.strict_yaml import ConfigError

FindSecret = Callable[[str], str]
"""Value of a secret by its name; raises ``ConfigError`` that names it when there is none."""


def open_polled(config: CpoConfig, find_secret: FindSecret = secret) -> PolledFeed:
    """Make the client for a feed that is asked at intervals. Raises ``ConfigError`` for any other."""
    if isinstance(config.feed, OcpiFeed):
        from ingestion.ocpi.pull import OcpiPull

        return OcpiPull(config, config.feed.versions_url, find_secret(config.feed.token_secret))
    if isinstance(config.feed, RestPullFeed):
        from ingestion.rest.pull import RestPull

        return RestPull(config, find_secret)
    raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not polled")


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
