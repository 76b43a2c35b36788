"""From a CPO's own JSON (or rows) to assets and statuses, by JMESPath expressions of its file. Pure: no network, no clock.

A document is read in three levels: sites, in each its EVSEs, in each its connectors. Each level has an expression that gives the list, within the object of
the level above, and one expression per field, within its own object. Flat documents (a record per EVSE or per connector) leave levels out: then the object of
the level above stands for itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import jmespath
import jmespath.exceptions
from pydantic import AfterValidator, Field

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


class SiteFields(Strict):
    """Expressions within a site's object."""

    site_id: Expression
    site_name: Expression | None = None
    address: Expression | None = None
    suburb: Expression | None = None
    postcode: Expression | None = None
    state: Expression | None = None
    country: Expression | None = None
    latitude: Expression | None = None
    longitude: Expression | None = None
    time_zone: Expression | None = None


class EvseFields(Strict):
    """Expressions within an EVSE's object. ``updated_at``: the source's own time of the status."""

    evse_id: Expression
    status: Expression | None = None
    updated_at: Expression | None = None
    charger_id: Expression | None = None
    emi3_id: Expression | None = None
    commissioned_on: Expression | None = None


class ConnectorFields(Strict):
    """Expressions within a connector's object. Power as stated, else volts times amperes by ``power_type`` (an OCPI word)."""

    connector_id: Expression | None = None
    connector_standard: Expression | None = None
    power: Power | None = None
    volts: Expression | None = None
    amperes: Expression | None = None
    power_type: Expression | None = None


class Mapping(Strict):
    """How a document is read. ``statuses``: a second list, joined by ``evse_id``, when statuses stand apart from the descriptions."""

    sites: Expression = "@"
    site: SiteFields
    evses: Expression | None = None
    evse: EvseFields
    connectors: Expression | None = None
    connector: ConnectorFields = ConnectorFields()
    attributes: dict[str, Expression] = Field(default_factory=dict)
    """What else is kept of an EVSE's object, by name."""


class StatusMapping(Strict):
    """How a list of statuses is read whose EVSEs are described elsewhere."""

    items: Expression = "@"
    evse_id: Expression
    status: Expression
    updated_at: Expression | None = None


Document = Any
"""Parsed JSON, or rows as a list of objects."""
