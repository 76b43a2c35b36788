"""The feeds that may call us, as their CPO files say now."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ingestion.config import CpoConfig, OcpiFeed, RestPushFeed, config_dir, load_cpo
from warehouse.strict_yaml import ConfigError

LOG = logging.getLogger("ingestion.receiver")

LOOK_SECONDS = 1.0
"""How long the folder of CPO files is taken to be as it was."""

Stamp = tuple[int, int]


class PushFeeds:
    """CPO files of kind ``ocpi_push``, ``rest_push`` and, for its registration alone, ``ocpi_pull``, by feed id, read again when they change.

    A file that cannot be read is reported; what it said before stays in force.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or config_dir()
        self._stamps: dict[Path, Stamp] = {}
        self._configs: dict[str, CpoConfig] = {}
        self._looked_at = float("-inf")

    def get(self, feed_id: str) -> CpoConfig | None:
        """The feed's file; ``None`` when it has none or does not call."""
        return self.all().get(feed_id)

    def all(self) -> dict[str, CpoConfig]:
        """All of them, by feed id."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look()
        return self._configs

    def _look(self) -> None:
        stamps: dict[Path, Stamp] = {}
        for path in self._folder.glob("*.yml"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            stamps[path] = (found.st_mtime_ns, found.st_size)
        if stamps == self._stamps:
            return
        configs = {feed_id: config for feed_id, config in self._configs.items() if self._path(feed_id) in stamps}
        for path, stamp in sorted(stamps.items()):
            if self._stamps.get(path) == stamp:
                continue
            try:
                config = load_cpo(path.stem, self._folder, expand=True)
            except ConfigError as error:
                LOG.error("this file is not taken: %s", error)
                continue
            configs.pop(config.cpo_id, None)
            if isinstance(config.feed, OcpiFeed | RestPushFeed):
                configs[config.cpo_id] = config
        self._stamps, self._configs = stamps, configs

    def _path(self, feed_id: str) -> Path:
        return self._folder / f"{feed_id}.yml"
