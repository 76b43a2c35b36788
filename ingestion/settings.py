"""Values that stand in configuration files, checked at the door: what every kind of feed shares."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from ingestion.times import is_time_zone
from warehouse.connection import REPOSITORY

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,39}$")]


def must_be_time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise ValueError(f"'{name}' is not an IANA time zone")
    return name


TimeZone = Annotated[str, AfterValidator(must_be_time_zone)]

# Most tokens do not look like this: one that stands here by mistake is refused, and no message repeats it.
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class Strict(BaseModel):
    """A block of a file: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Seconds = Annotated[int, Field(strict=True, gt=0)]

STATUS_PROFILES = REPOSITORY / "dbt_project" / "seeds" / "status_profiles.csv"
"""What each profile's words mean; a profile that is not there would make every word unknown."""
STATUS_PROFILE_BASES = REPOSITORY / "dbt_project" / "seeds" / "status_profile_bases.csv"
"""Profiles that say only where they differ from their base."""


@lru_cache(maxsize=1)
def status_profiles() -> dict[str, dict[str, str]]:
    """Each status profile: the source's word, in lower case, to the canonical status that it has last, its own way or by its base.

    Raises ``ValueError`` for a base that does not exist and for a circle of bases.
    """
    own: dict[str, dict[str, str]] = {}
    for row in sorted(_rows(STATUS_PROFILES), key=lambda row: row["valid_from"]):
        own.setdefault(row["status_profile"], {})[row["source_word"].lower()] = row["status"]
    bases = {row["status_profile"]: row["base_profile"] for row in _rows(STATUS_PROFILE_BASES)}
    known = own.keys() | bases.keys()
    profiles: dict[str, dict[str, str]] = {}
    for profile in known:
        words: dict[str, str] = {}
        lineage = [profile]
        while True:
            words = own.get(lineage[-1], {}) | words
            base = bases.get(lineage[-1])
            if base is None:
                break
            if base in lineage or base not in known:
                problem = "goes round in a circle" if base in lineage else "does not exist"
                raise ValueError(f"{STATUS_PROFILE_BASES}: {lineage[-1]}: its base '{base}' {problem}")
            lineage.append(base)
        profiles[profile] = words
    return profiles


def status_words(profile: str) -> dict[str, str]:
    """The words of a profile, and what they mean."""
    return status_profiles()[profile]


def _rows(seed: Path) -> list[dict[str, str]]:
    with seed.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def must_be_status_profile(name: str) -> str:
    """Return ``name``; raise ``ValueError`` when no such profile exists."""
    if name not in status_profiles():
        raise ValueError(f"'{name}' is not a profile of {STATUS_PROFILES.relative_to(REPOSITORY)}")
    return name


StatusProfile = Annotated[str, AfterValidator(must_be_status_profile)]


class FeedSettings(Strict):
    """Keys that every kind of feed has."""

    status_profile: StatusProfile
    """Which seed rows translate this feed's words."""
    liveness_seconds: Seconds
    """How long the last contact proves that silence means unchanged."""
    time_zone: TimeZone | None = None
    """IANA zone of sites that state none; without it such a site is quarantined."""
    naive_time_zone: TimeZone = "UTC"
    """IANA zone of timestamps that carry none."""
    ended_at: AwareDatetime | None = None
    """The agreed end of the feed: its EVSEs are not in service for us from then on."""
    virtual_evses: bool = False
    """Each plug is told as an EVSE of its own, and the others of a charger as down while one of them is in use."""
    alert_after_minutes: Annotated[int, Field(strict=True, gt=0)] = 15
    """Silence for longer than this is an alert."""
