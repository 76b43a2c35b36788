"""What an OCPI 2.2.1 object must have for us, and what it may have.

Lenient: only what gives an object its identity and state is essential. An optional field that cannot be read
is dropped with a note and the object stays; an object without an essential field is rejected alone. Unknown
words stay as they are, unknown fields are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ingestion.model import Rejected
from ingestion.values import MAX_ID_LENGTH, payload_text

_MAX_REF_LENGTH = 300

Word = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True, coerce_numbers_to_str=True)

    essential: ClassVar[frozenset[str]]
    """Fields without which the object cannot be taken."""


class Connector(_Lenient):
    """A plug or socket."""

    essential = frozenset({"id"})

    id: Word
    standard: str | None = None
    format: str | None = None
    power_type: str | None = None
    max_voltage: Number | None = None
    max_amperage: Number | None = None
    voltage: Number | None = None
    """The name in 2.1.1, seen in later versions too."""
    amperage: Number | None = None
    max_electric_power: Number | None = None


class Evse(_Lenient):
    """A port. Its connectors are kept unread: each is read on its own."""

    essential = frozenset({"uid", "status", "connectors"})

    uid: Word
    status: Word
    evse_id: str | None = None
    physical_reference: str | None = None
    floor_level: str | None = None
    last_updated: str | None = None
    connectors: list[Any] | None = None


class Location(_Lenient):
    """A site. Its EVSEs are kept unread: each is read on its own."""

    essential = frozenset({"id", "evses"})

    id: Word
    country_code: str | None = None
    party_id: str | None = None
    name: str | None = None
    address: str | None = None
    city: str | None = None
    postal_code: str | None = None
    state: str | None = None
    country: str | None = None
    coordinates: dict[str, Any] | None = None
    time_zone: str | None = None
    parking_type: str | None = None
    publish: bool | None = None
    operator: dict[str, Any] | None = None
    evses: list[Any] | None = None


Model = TypeVar("Model", Location, Evse, Connector)


@dataclass(slots=True)
class Findings:
    """Collects what could not be taken from one answer. ``source`` says where that came from (a URL path)."""

    source: str
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, record_ref: str, field: str | None, reason: str, record: object) -> None:
        """Keep a record (or the part of it that is wrong) as text, with the reason."""
        self.rejected.append(Rejected(self.source, record_ref[:_MAX_REF_LENGTH], field, reason, payload_text(record)))

    def read(self, model: type[Model], raw: object, record_ref: str, path: str = "") -> Model | None:
        """Read one object. ``path`` is its place in the record, ending in a dot (``evses[0].``).

        Fields that are not essential and wrong are dropped and noted. ``None``: the object was rejected.
        """
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            problems = {
                str(finding["loc"][0]) if finding["loc"] else "": finding["msg"]
                for finding in error.errors(include_url=False, include_input=False)
            }
        if not isinstance(raw, dict):
            self.reject(record_ref, path.rstrip(".") or None, "not an object", raw)
            return None
        for name, message in problems.items():
            if name in model.essential:
                self.reject(record_ref, path + name, message, raw)
                return None
        for name, message in problems.items():
            self.reject(record_ref, path + name, f"kept without this field: {message}", raw.get(name))
        return model.model_validate({name: value for name, value in raw.items() if name not in problems})
