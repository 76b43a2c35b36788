"""``config/cpos/<cpo_id>.yml``: one file per CPO, read strictly.

An unknown, missing or wrong key is a ``ConfigError`` that names file and key. Values may hold ``${NAME}``: an environment variable (never a
secret: a secret is named by ``token_secret`` and read only when it is used).
"""

from __future__ import annotations

import csv
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ingestion.times import is_time_zone
from warehouse.connection import REPOSITORY
from warehouse.strict_yaml import ConfigError, expand_environment, explain, read_strict_yaml

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,39}$")]


def _must_be_time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise ValueError(f"'{name}' is not an IANA time zone")
    return name


TimeZone = Annotated[str, AfterValidator(_must_be_time_zone)]

# Most tokens do not look like this: one that stands here by mistake is refused, and no message repeats it.
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Seconds = Annotated[int, Field(strict=True, gt=0)]

STATUS_PROFILES = REPOSITORY / "dbt_project" / "seeds" / "status_profiles.csv"
"""What each profile's words mean; a profile that is not there would make every word unknown."""


@lru_cache(maxsize=1)
def status_profiles() -> frozenset[str]:
    """Names of the status profiles that there are."""
    with STATUS_PROFILES.open(encoding="utf-8", newline="") as file:
        return frozenset(row["status_profile"] for row in csv.DictReader(file))


def must_be_status_profile(name: str) -> str:
    """Return ``name``; raise ``ValueError`` when no such profile exists."""
    if name not in status_profiles():
        raise ValueError(f"'{name}' is not a profile of {STATUS_PROFILES.relative_to(REPOSITORY)}")
    return name


StatusProfile = Annotated[str, AfterValidator(must_be_status_profile)]


class _Feed(_Strict):
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


class OcpiPullFeed(_Feed):
    """OCPI Locations, pulled in full at each poll."""

    kind: Literal["ocpi_pull"]
    version: Literal["2.2.1"]
    versions_url: str
    party: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}\*[A-Z0-9]{3}$")]
    """The CPO's own party, country_code*party_id. Objects of other parties (a hub's) keep theirs in their identity."""
    token_secret: SecretName
    """Name of the environment variable that holds the token (or ``<name>_FILE``, a file that holds it)."""
    poll_seconds: Seconds
    charger_id: Literal["evse", "physical_reference", "evse_id_prefix"] = "evse"
    """What makes a charger: each EVSE its own; EVSEs of a site with one physical_reference; EVSE ids alike up to the last ``*``."""


class HistoryFeed(_Feed):
    """Hand-over files only: nothing is polled."""

    kind: Literal["history"]
    status_profile: StatusProfile = "history"


class CpoConfig(_Strict):
    """One CPO and its feed."""

    cpo_id: Identifier
    name: str = Field(min_length=1)
    feed: Annotated[OcpiPullFeed | HistoryFeed, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _silence_must_outlast_a_poll(self) -> CpoConfig:
        if isinstance(self.feed, OcpiPullFeed) and self.feed.liveness_seconds <= self.feed.poll_seconds:
            raise ValueError("feed.liveness_seconds must be more than feed.poll_seconds")
        return self


def config_dir() -> Path:
    """Folder of the CPO files (``CPO_CONFIG_DIR``, by default ``config/cpos/``)."""
    return Path(os.environ.get("CPO_CONFIG_DIR") or REPOSITORY / "config" / "cpos")


def cpo_ids(folder: Path | None = None) -> list[str]:
    """Ids of all CPOs with a file, sorted; reads names only."""
    return sorted(path.stem for path in (folder or config_dir()).glob("*.yml"))


def load_cpo(cpo_id: str, folder: Path | None = None, *, expand: bool = False) -> CpoConfig:
    """Read and check one CPO's file. Raises ``ConfigError``.

    With ``expand`` each ``${NAME}`` is replaced from the environment: for whoever asks the feed. A hand-over needs none of them.
    """
    folder = folder or config_dir()
    path = folder / f"{cpo_id}.yml"
    if not path.exists():
        known = ", ".join(cpo_ids(folder)) or "none"
        raise ConfigError(f"{path} does not exist: write it (see docs/add-a-cpo.md). CPOs known in {folder}: {known}")
    document = read_strict_yaml(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of keys")
    if expand:
        document = {key: expand_environment(value, f"{path}: {key}") for key, value in document.items()}
    try:
        config = CpoConfig.model_validate(document)
    except ValidationError as error:
        raise explain(path, error, kinds=frozenset({"ocpi_pull", "history"})) from error
    if config.cpo_id != path.stem:
        raise ConfigError(f"{path}: cpo_id: '{config.cpo_id}' must be the file's name '{path.stem}'")
    return config


def secret(name: str) -> str:
    """Value of the environment variable ``name``, else the content of the file that ``<name>_FILE`` names.

    Raises ``ConfigError``, also for an empty one.
    """
    if value := os.environ.get(name, "").strip():
        return value
    if file := os.environ.get(f"{name}_FILE"):
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            # Without its cause, which may quote what is in the file.
            raise ConfigError(f"secret {name}: the file that {name}_FILE names cannot be read: {file}") from None
        if not value:
            raise ConfigError(f"secret {name}: the file that {name}_FILE names is empty: {file}")
        return value
    raise ConfigError(f"secret {name} is not set (environment variable {name} or {name}_FILE)")
