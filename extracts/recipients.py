"""``config/recipients.yml``: one block per recipient, read strictly.

An unknown, missing or wrong key is a ``ConfigError`` that names file, block and key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from warehouse.connection import REPOSITORY
from warehouse.strict_yaml import ConfigError, expand_environment, explain, read_strict_yaml

_State = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]


class Recipient(BaseModel):
    """Who receives which rows, judged by which rule-set, and when."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    recipient_id: str
    name: str = Field(min_length=1)
    states: Annotated[tuple[_State, ...], Field(min_length=1, strict=False)]
    rule_set: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    rule_set_version: int = Field(ge=1)
    time_zone: str
    """IANA zone of the timer. What a month is follows from each site's own zone."""
    day: int = Field(ge=1, le=28)
    hour: int = Field(ge=0, le=23)
    destination: str = Field(min_length=1)

    @field_validator("states")
    @classmethod
    def _states_stand_once(cls, states: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(states)) != len(states):
            raise ValueError("a state stands twice")
        return states

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"'{zone}' is not an IANA time zone") from None
        return zone

    @property
    def destination_url(self) -> str | None:
        """URL of the store that packages go to; ``None`` for the project's own."""
        return None if self.destination == "default" else self.destination


def recipients_path() -> Path:
    """The file (``RECIPIENTS_CONFIG``, by default ``config/recipients.yml``)."""
    return Path(os.environ.get("RECIPIENTS_CONFIG") or REPOSITORY / "config" / "recipients.yml")


def load_recipients(path: Path | None = None) -> dict[str, Recipient]:
    """Read and check all recipients, by id, in file order. Raises ``ConfigError``."""
    path = path or recipients_path()
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    document = read_strict_yaml(path)
    if not isinstance(document, dict) or not document:
        raise ConfigError(f"{path}: must be a mapping of recipient ids to blocks")
    found: dict[str, Recipient] = {}
    for recipient_id, block in document.items():
        where = f"{path}: {recipient_id}"
        if not re.fullmatch(r"[a-z][a-z0-9_]{1,39}", str(recipient_id)):
            raise ConfigError(f"{where}: an id is 2 to 40 of a-z, 0-9 and _, a letter first")
        if not isinstance(block, dict):
            raise ConfigError(f"{where}: must be a mapping of keys")
        if "recipient_id" in block:
            raise ConfigError(f"{where}: recipient_id: unknown key (the block's own key is the id)")
        block = {key: expand_environment(value, f"{where}: {key}") for key, value in block.items()}
        try:
            found[recipient_id] = Recipient.model_validate({"recipient_id": recipient_id, **block})
        except ValidationError as error:
            raise explain(where, error) from error
    return found


def recipient(recipient_id: str, path: Path | None = None) -> Recipient:
    """Return one recipient. Raises ``ConfigError`` naming those that exist."""
    known = load_recipients(path)
    if recipient_id not in known:
        raise ConfigError(f"{path or recipients_path()}: no recipient '{recipient_id}'; there are {', '.join(known)}")
    return known[recipient_id]
