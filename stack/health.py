"""Ask a process whether it is well: ``python -m stack.health URL [PART]``, exit status 0 when it is.

Imports the standard library only, because containers run it every few seconds.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Health:
    """An HTTP address that answers 200; with ``part``, Airflow's monitor must call that part healthy."""

    url: str
    part: str | None = None

    def command(self, python: str) -> tuple[str, ...]:
        """The same question as a command, for a container's health check."""
        return (python, "-m", "stack.health", self.url, *([self.part] if self.part else []))


def is_healthy(health: Health, since: datetime | None = None) -> bool:
    """Whether the answer says so; a heartbeat from before ``since`` is a dead process's and does not count."""
    request = urllib.request.Request(health.url, headers={"Accept": "application/json"})
    # The address comes from our own list of processes. A proxy setting must not come between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            body = answer.read()
    except (OSError, urllib.error.URLError):
        return False
    return health.part is None or part_is_healthy(body, health.part, since)


def part_is_healthy(body: bytes, part: str, since: datetime | None) -> bool:
    """Read one part of the answer of Airflow's ``/api/v2/monitor/health``."""
    try:
        found = json.loads(body)[part]
        status = found["status"]
        beat = found.get(f"latest_{part}_heartbeat")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    if status != "healthy":
        return False
    if since is None or part == "metadatabase":
        return True
    return beat is not None and datetime.fromisoformat(beat) >= since


if __name__ == "__main__":
    sys.exit(0 if is_healthy(Health(*sys.argv[1:3])) else 1)
