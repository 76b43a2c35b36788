"""``config/cpos/<cpo_id>.yml``: one file per CPO, read strictly.

An unknown, missing or wrong key is a ``ConfigError`` that names file and key. Values may hold ``${NAME}``: an environment variable (never a
secret: a secret is named by ``token_secret`` and read only when it is used).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from ingestion.mapping_settings import Expression, Mapping, StatusMapping
from ingestion.rest.auth import Auth, NoAuth
from ingestion.rest.paging import NoPaging, Paging
from ingestion.settings import FeedSettings, Identifier, Seconds, SecretName, StatusProfile, Strict
from warehouse.connection import REPOSITORY
from warehouse.strict_yaml import ConfigError, expand_environment, explain, read_strict_yaml

Party = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}\*[A-Z0-9]{3}$")]
Ratio = Annotated[float, Field(ge=0, le=1)]


class _Ocpi(FeedSettings):
    """A party's OCPI Locations."""

    version: Literal["2.1.1", "2.2.1", "2.3.0"]
    versions_url: str
    party: Party
    """The CPO's own party, country_code*party_id. Objects of other parties (a hub's) keep theirs in their identity."""
    parties: tuple[Party, ...] | None = Field(default=None, min_length=1)
    """Of a hub that carries several parties, those whose objects are taken; by default all."""
    token_secret: SecretName | None = None
    """Name of the environment variable that holds the token (or ``<name>_FILE``, a file that holds it); once registered, the registration's is used."""
    charger_id: Literal["evse", "physical_reference", "evse_id_prefix"] = "evse"
    """What makes a charger: each EVSE its own; EVSEs of a site with one physical_reference; EVSE ids alike up to the last ``*``."""


class OcpiPullFeed(_Ocpi):
    """OCPI Locations, pulled at each poll."""

    kind: Literal["ocpi_pull"]
    poll_seconds: Seconds
    full_seconds: Seconds | None = None
    """Time between full lists (a day at most); the polls between them ask only for what changed. Without it every poll is full."""


class OcpiPushFeed(_Ocpi):
    """OCPI Locations that the CPO pushes to our receiver, reconciled by a full pull."""

    kind: Literal["ocpi_push"]
    reconcile_seconds: Seconds
    """Time between full lists; a break of the push asks for one at once."""

    @property
    def poll_seconds(self) -> int:
        """Time between polls: all of them are full."""
        return self.reconcile_seconds


OcpiFeed = OcpiPullFeed | OcpiPushFeed


def _must_hold_no_password(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("user and password do not belong into a URL: see auth")
    return url


class Request(Strict):
    """One list asked for by GET."""

    url: Annotated[str, AfterValidator(_must_hold_no_password)]
    paging: Paging = NoPaging()


class AssetsRequest(Request):
    """The list of descriptions."""

    every_seconds: Seconds | None = None
    """Time between two requests when statuses stand apart; without it the list is asked for at each poll."""


class RestPullFeed(FeedSettings):
    """JSON of the CPO's own making, asked for at each poll: one list, or two joined by ``evse_id``."""

    kind: Literal["rest_pull"]
    poll_seconds: Seconds
    auth: Auth = NoAuth()
    assets: AssetsRequest
    mapping: Mapping
    statuses: Request | None = None
    status_mapping: StatusMapping | None = None
    max_shrink_ratio: Ratio = 0.5
    """A list that lost more than this share of the EVSEs present until now is a failed poll, no removal. A person who knows that it is true says 1."""

    @model_validator(mode="after")
    def _statuses_stand_somewhere(self) -> RestPullFeed:
        if (self.statuses is None) != (self.status_mapping is None):
            raise ValueError("statuses and status_mapping go together")
        if (self.mapping.evse.status is None) == (self.statuses is None):
            raise ValueError("name either mapping.evse.status or statuses with status_mapping")
        if self.assets.every_seconds is not None and self.statuses is None:
            raise ValueError("assets.every_seconds is for feeds whose statuses stand apart")
        return self


class RestPushFeed(FeedSettings):
    """Observations that the CPO posts to our receiver."""

    kind: Literal["rest_push"]


class _Stream(FeedSettings):
    """A connection that we hold and over which the CPO tells changes."""

    auth: Auth = NoAuth()
    messages: StatusMapping | None = None
    """How the statuses in a message are read; a message that holds none is a sign of life."""
    mapping: Mapping | None = None
    """How descriptions (with statuses or without) are read, in messages and in the snapshot."""
    snapshot_when: Expression | None = None
    """True of the message that lists every EVSE, told after connecting."""
    snapshot: Request | None = None
    """Instead: a list to be asked for after connecting."""
    max_shrink_ratio: Ratio = 0.5
    """A snapshot that lost more than this share of the EVSEs present until now is not believed."""
    descriptions: Request | None = None
    """A list that describes the EVSEs and tells no status, read by ``mapping``: asked for after connecting, and when an unknown EVSE is told."""
    quiet_seconds: Seconds = 60
    """Without any sign of life for this long the connection counts as broken."""

    @model_validator(mode="after")
    def _something_is_read(self) -> _Stream:
        if self.messages is None and self.mapping is None:
            raise ValueError("name messages, mapping or both: how a message is read")
        if self.snapshot_when is not None and self.snapshot is not None:
            raise ValueError("name snapshot_when or snapshot, not both")
        if self.snapshot is not None and (self.mapping is None or self.mapping.evse.status is None):
            raise ValueError("snapshot is read by mapping, which must say where the status stands")
        if self.descriptions is not None:
            if self.mapping is None or self.messages is None:
                raise ValueError("descriptions are read by mapping, and statuses by messages: name both")
            if self.mapping.evse.status is not None:
                raise ValueError("descriptions tell no status: a list with statuses is a snapshot")
        return self


class WebSocketFeed(_Stream):
    """JSON messages over a WebSocket."""

    kind: Literal["websocket"]
    url: Annotated[str, StringConstraints(pattern=r"^wss?://"), AfterValidator(_must_hold_no_password)]
    subscribe: tuple[dict[str, object] | str, ...] = ()
    """Messages to be sent after connecting: objects (sent as JSON) or texts."""
    subprotocol: str | None = None


class SseFeed(_Stream):
    """JSON messages as Server-Sent Events."""

    kind: Literal["sse"]
    url: Annotated[str, StringConstraints(pattern=r"^https?://"), AfterValidator(_must_hold_no_password)]
    events: tuple[str, ...] = ()
    """Names of the events that are read; without it all of them."""
    resumes: bool = False
    """Asked with ``Last-Event-ID`` the source tells everything since: a short break loses nothing."""


class FileDropFeed(FeedSettings):
    """Files that the CPO leaves in a folder or object store, each taken once."""

    kind: Literal["file_drop"]
    poll_seconds: Seconds
    url: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*://")]
    """``file:///folder``, ``az://container/prefix`` or ``s3://bucket/prefix``."""
    pattern: str = "*"
    """Which names below it are files of this feed."""
    format: Literal["csv", "parquet", "json"]
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    """``csv``: what stands between values."""
    mapping: Mapping | None = None
    """How a record is read that describes an EVSE, with its status."""
    status_mapping: StatusMapping | None = None
    """Instead: how a record is read that gives the status of an EVSE described elsewhere."""
    is_complete: bool
    """Each file lists every EVSE; otherwise it tells of some."""
    max_shrink_ratio: Ratio = 0.5
    """A complete file that lost more than this share of the EVSEs present until now is refused."""
    observed_at: Literal["record", "name", "modified"]
    """Where the time of a file's statuses stands: in each record (``updated_at``), in its name, or when it was last modified."""
    name_time: str | None = None
    """``name``: how the time stands in the name, as of ``strptime``, with the rest of the name."""

    @model_validator(mode="after")
    def _times_and_records_are_named(self) -> FileDropFeed:
        if (self.mapping is None) == (self.status_mapping is None):
            raise ValueError("name either mapping or status_mapping")
        if self.mapping is not None and self.mapping.evse.status is None:
            raise ValueError("mapping.evse.status must say where the status stands")
        if (self.observed_at == "name") != (self.name_time is not None):
            raise ValueError("observed_at: name and name_time go together")
        if self.observed_at == "record":
            if self.is_complete:
                raise ValueError("the time of a complete file stands in its name, or is when it was modified")
            reads = self.mapping.evse if self.mapping else self.status_mapping
            if reads is None or reads.updated_at is None:
                raise ValueError("observed_at: record needs updated_at")
        return self


class HistoryFeed(FeedSettings):
    """Hand-over files only: nothing is polled."""

    kind: Literal["history"]
    status_profile: StatusProfile = "history"


PolledSettings = OcpiPullFeed | OcpiPushFeed | RestPullFeed | FileDropFeed
"""Kinds that are asked at intervals."""
StreamSettings = WebSocketFeed | SseFeed
"""Kinds that are listened to."""
AnyFeed = (
    OcpiPullFeed | OcpiPushFeed | RestPullFeed | RestPushFeed | WebSocketFeed | SseFeed | FileDropFeed | HistoryFeed
)
KINDS = frozenset(
    {"ocpi_pull", "ocpi_push", "rest_pull", "rest_push", "websocket", "sse", "file_drop", "history"}
    | {"none", "header", "query", "basic", "oauth2_client_credentials"}
    | {"page", "offset", "cursor", "link"}
)
"""Names of alternatives: of feeds, credentials and paging."""


class CpoConfig(Strict):
    """One CPO and its feed."""

    cpo_id: Identifier
    name: str = Field(min_length=1)
    feed: Annotated[AnyFeed, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _silence_must_outlast_a_poll(self) -> CpoConfig:
        if isinstance(self.feed, PolledSettings) and self.feed.liveness_seconds <= self.feed.poll_seconds:
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
        raise explain(path, error, kinds=KINDS) from error
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
