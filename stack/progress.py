"""Progress lines with the seconds since the start."""

from __future__ import annotations

import sys
import time


class Progress:
    """Call it with a message: it prints the elapsed seconds before it, at once."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def __call__(self, message: str) -> None:
        sys.stdout.write(f"[{self.seconds:6.1f} s] {message}\n")
        sys.stdout.flush()
