"""The secret of a stream, as the handshake needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Access(Protocol):
    """How we show who we are."""

    def enter(self, url: str) -> tuple[str, Mapping[str, str]]:
        """URL and headers to open a connection with. Raises ``FeedError`` when no token could be had."""
        ...

    def refused(self) -> None:
        """Ask for a new token before the next try, where tokens are asked for."""
        ...

    def redact(self, text: str) -> str:
        """The text with every secret blotted out."""
        ...
