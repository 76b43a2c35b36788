"""What a CPO's file says of its own JSON or rows: where in it things stand, by JMESPath expressions. `ingestion.mapping` reads by it."""

from __future__ import annotations

from typing import Annotated, Literal

import jmespath
import jmespath.exceptions
from pydantic import AfterValidator, Field, model_validator

from ingestion.settings import Strict


def _must_compile(text: str) -> str:
    try:
        jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"'{text}' is not a JMESPath expression: {str(error).splitlines()[0]}") from error
    return text


Expression = Annotated[str, Field(min_length=1), AfterValidator(_must_compile)]


class Power(Strict):
    """Where a connector's rated power stands, and in what unit."""

    path: Expression
    unit: Literal["kW", "W"]


class _Field(Strict):
    """A field of which more is said than where it stands; the expression alone stands for ``{path: ...}``."""

    path: Expression

    @model_validator(mode="before")
    @classmethod
    def _expression_alone(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value


class Time(_Field):
    """A time: ISO 8601 (without an offset it is read in the feed's ``naive_time_zone``), or a number of seconds or milliseconds since 1970."""

    unit: Literal["iso8601", "seconds", "milliseconds"] = "iso8601"


class ChargerId(_Field):
    """What EVSEs of one charger have in common: the whole value, or what it has before its last ``*`` (or another separator)."""

    before_last: Annotated[str, Field(min_length=1)] | None = None


class Coordinates(Strict):
    """Both in one value: a text of two numbers apart by blanks, commas or semicolons, or a list of two."""

    path: Expression
    order: Literal["lat lon", "lon lat"]


class SiteFields(Strict):
    """Expressions within a site's object. Time zone: as stated, else by the coordinates, else the feed's."""

    site_id: Expression
    site_name: Expression | None = None
    address: Expression | None = None
    suburb: Expression | None = None
    postcode: Expression | None = None
    state: Expression | None = None
    country: Expression | None = None
    latitude: Expression | None = None
    longitude: Expression | None = None
    coordinates: Coordinates | None = None
    """Instead of latitude and longitude."""
    time_zone: Expression | None = None

    @model_validator(mode="after")
    def _coordinates_stand_once(self) -> SiteFields:
        if (self.latitude is None) != (self.longitude is None) or (self.latitude and self.coordinates):
            raise ValueError("name latitude and longitude, or coordinates, or none")
        return self


class EvseFields(Strict):
    """Expressions within an EVSE's object. ``updated_at``: the source's own time of the status."""

    evse_id: Expression
    status: Expression | None = None
    updated_at: Time | None = None
    charger_id: ChargerId | None = None
    emi3_id: Expression | None = None
    commissioned_on: Expression | None = None


class ConnectorFields(Strict):
    """Expressions within a connector's object. Power as stated, else volts (line to neutral) times amperes by ``power_type`` (an OCPI word)."""

    connector_id: Expression | None = None
    connector_standard: Expression | None = None
    power: Power | None = None
    volts: Expression | None = None
    amperes: Expression | None = None
    power_type: Expression | None = None


class Mapping(Strict):
    """How descriptions are read, and statuses when they stand in them."""

    sites: Expression = "@"
    site: SiteFields
    evses: Expression | None = None
    evse: EvseFields
    connectors: Expression | None = None
    connector: ConnectorFields = ConnectorFields()
    attributes: dict[str, Expression] = Field(default_factory=dict)
    """What else is kept of a connector's object (for a flat record: of the record), by name."""


class StatusMapping(Strict):
    """How a list of statuses is read whose EVSEs are described elsewhere."""

    items: Expression = "@"
    evse_id: Expression
    status: Expression
    updated_at: Time | None = None
