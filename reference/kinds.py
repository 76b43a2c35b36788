"""Which reference files there are, what each is for, and what a row of it must be."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class State(StrEnum):
    """States and territories."""

    NSW = "NSW"
    VIC = "VIC"
    QLD = "QLD"
    SA = "SA"
    WA = "WA"
    TAS = "TAS"
    NT = "NT"
    ACT = "ACT"


def plain(name: str) -> str:
    """A name as names are compared: without case and blanks. The marts do the same (macro ``plain_name``)."""
    return re.sub(r"\s+", "", name).lower()


def _postcode(text: str) -> str:
    if not re.fullmatch(r"\d{3,4}", text):
        raise ValueError(f"'{text}' is not a postcode")
    # Spreadsheets drop the zero of 0800.
    return text.zfill(4)


def _state(text: Any) -> Any:
    return text.upper() if isinstance(text, str) else text


def _lga_code(text: str) -> str:
    # The first digit is the state's.
    if not re.fullmatch(r"[1-9]\d{4}", text):
        raise ValueError(f"'{text}' is not an ABS code of five digits")
    return text


def _evse_ids(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    return [] if text.lower() == "none" else text.split()


# Australia with its near islands. A swapped pair is outside.
Latitude = Annotated[float, Field(ge=-45, le=-8)]
Longitude = Annotated[float, Field(ge=96, le=169)]
Postcode = Annotated[str, AfterValidator(_postcode)]
AnyCaseState = Annotated[State, BeforeValidator(_state)]
LgaCode = Annotated[str, AfterValidator(_lga_code)]


class Row(BaseModel):
    """A row of a file; an empty field is None. A field with a default may be empty, but its column must be there."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class PostcodeRange(Row):
    """Postcodes of a state, both ends included."""

    state: AnyCaseState
    first_postcode: Postcode
    last_postcode: Postcode

    @model_validator(mode="after")
    def _is_in_order(self) -> PostcodeRange:
        if self.last_postcode < self.first_postcode:
            raise ValueError(f"last_postcode {self.last_postcode} is before first_postcode {self.first_postcode}")
        return self


class RequiredState(Row):
    """A state whose government receives an extract."""

    state: AnyCaseState


class LgaName(Row):
    """A name that somebody writes for a local government area."""

    written_name: str
    lga_name: str
    lga_code: LgaCode


class FundedAsset(Row):
    """A site, charger or port that a government paid for."""

    evse_id: str | None = None
    evse_port_id: str | None = None
    cpo_name: str
    address: str | None = None
    suburb: str | None = None
    postcode: Postcode | None = None
    lga_code: LgaCode | None = None
    lga_name: str | None = None
    state: AnyCaseState | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    program: str
    round: str

    @model_validator(mode="after")
    def _has_both_or_none(self) -> FundedAsset:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("of latitude and longitude one is missing")
        return self

    @property
    def coordinate_decimals(self) -> int | None:
        """Decimals that the finer of the two coordinates is written with."""
        if self.latitude is None or self.longitude is None:
            return None
        return max(len(repr(degrees).partition(".")[2]) for degrees in (self.latitude, self.longitude))


class CpoName(Row):
    """A name that the list of funded assets has for a CPO."""

    listed_name: str
    cpo_id: str


class FundingDecision(Row):
    """What a person decided about a listed asset: the EVSEs that it is, parted by blanks, or ``none``."""

    asset_id: str
    evse_ids: Annotated[list[str], BeforeValidator(_evse_ids)]
    decided_by: str
    decided_at: AwareDatetime
    note: str | None = None


@dataclass(frozen=True)
class Area:
    """A boundary; ``geometry`` is a GeoJSON Polygon or MultiPolygon in degrees."""

    code: str
    name: str
    geometry: dict[str, Any]


@dataclass(frozen=True)
class Numbered:
    """A row and where it stands: the line of a CSV file, the number of a GeoJSON feature."""

    number: int
    row: Any


Finding = tuple[int, str, str]
"""Number, field, and what is wrong."""


def _overlapping(rows: Sequence[Numbered]) -> Iterator[Finding]:
    in_order = sorted(rows, key=lambda one: one.row.first_postcode)
    for before, after in pairwise(in_order):
        if after.row.first_postcode <= before.row.last_postcode:
            yield (
                after.number,
                "first_postcode",
                f"{after.row.first_postcode} is also in the range of line {before.number}",
            )


def _repeated(
    what: str, key: Callable[[Any], Any], where: str = "line"
) -> Callable[[Sequence[Numbered]], Iterator[Finding]]:
    def check(rows: Sequence[Numbered]) -> Iterator[Finding]:
        first: dict[Any, int] = {}
        for one in rows:
            if (before := first.setdefault(key(one.row), one.number)) != one.number:
                yield one.number, what, f"the same as in {where} {before}"

    return check


def _lookup_findings(rows: Sequence[Numbered]) -> Iterator[Finding]:
    # The same name in two states is two areas.
    yield from _repeated("written_name", lambda row: (plain(row.written_name), row.lga_code[0]))(rows)
    first: dict[str, Numbered] = {}
    for one in rows:
        before = first.setdefault(one.row.lga_code, one)
        if before.row.lga_name != one.row.lga_name:
            yield one.number, "lga_name", f"another than in line {before.number} for {one.row.lga_code}"


def _no_check(rows: Sequence[Numbered]) -> Iterator[Finding]:
    return iter(())


def _of_model(one: Numbered) -> tuple[Any, ...]:
    return tuple(one.row.model_dump().values())


def _own_rows(rows: Sequence[Numbered]) -> list[tuple[Any, ...]]:
    return [_of_model(one) for one in rows]


def _area_rows(rows: Sequence[Numbered]) -> list[tuple[Any, ...]]:
    return [(one.row.code, one.row.name, json.dumps(one.row.geometry)) for one in rows]


def asset_ids(assets: Sequence[FundedAsset]) -> list[str]:
    """An id for each, made of its content; what is listed twice is told apart by a number."""
    seen: Counter[str] = Counter()
    ids = []
    for asset in assets:
        digest = hashlib.sha256(json.dumps([*asset.model_dump().values()]).encode()).hexdigest()[:10]
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def _asset_rows(rows: Sequence[Numbered]) -> list[tuple[Any, ...]]:
    ids = asset_ids([one.row for one in rows])
    return [
        (asset_id, one.number, one.row.coordinate_decimals, *_of_model(one))
        for asset_id, one in zip(ids, rows, strict=True)
    ]


@dataclass(frozen=True)
class Kind:
    """A kind of reference file."""

    name: str
    file: str
    purpose: str
    table: str
    columns: tuple[str, ...]
    """Of the table; ``rows`` gives their values."""
    row: type[Row] | None
    """What a CSV file's row is; None for boundaries."""
    area_fields: tuple[str, str] = ("", "")
    """Properties of a boundary that hold its code and its name."""
    area_code: Callable[[str], str] = str
    """Checks such a code; raises ``ValueError``."""
    is_required: bool = True
    """Whether a load of all kinds fails without it."""
    may_be_empty: bool = False
    check: Callable[[Sequence[Numbered]], Iterator[Finding]] = _no_check
    """What must hold between rows."""
    rows: Callable[[Sequence[Numbered]], list[tuple[Any, ...]]] = _own_rows


def _area_findings(fields: tuple[str, str]) -> Callable[[Sequence[Numbered]], Iterator[Finding]]:
    code, name = fields

    def check(areas: Sequence[Numbered]) -> Iterator[Finding]:
        yield from _repeated(code, lambda area: area.code, "feature")(areas)
        # A name that a CPO states must mean one area. The same name in two states is two areas.
        if name != code:
            yield from _repeated(name, lambda area: (plain(area.name), area.code[0]), "feature")(areas)

    return check


def _areas(name: str, purpose: str, fields: tuple[str, str], code: Callable[[str], str], *, is_required: bool) -> Kind:
    return Kind(
        name, f"{name}.geojson", purpose, "area", ("code", "name", "geometry"), None, fields, code, is_required,
        check=_area_findings(fields), rows=_area_rows,
    )  # fmt: skip


def _fields(row: type[Row]) -> tuple[str, ...]:
    return tuple(row.model_fields)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "postcode_ranges", "postcode_ranges.csv", "the state of a postcode, which overrules a wrong one",
            "postcode_range", _fields(PostcodeRange), PostcodeRange, check=_overlapping,
        ),
        Kind(
            "required_states", "required_states.csv", "the states whose governments receive an extract",
            "required_state", _fields(RequiredState), RequiredState, check=_repeated("state", lambda row: row.state),
        ),
        _areas(
            "lga_boundaries", "the local government area of a site, by its coordinates", ("lga_code", "lga_name"), _lga_code,
            is_required=True,
        ),
        _areas(
            "postcode_boundaries", "the postcode of a site that states none, by its coordinates", ("postcode", "postcode"), _postcode,
            is_required=False,
        ),
        Kind(
            "lga_lookup", "lga_lookup.csv", "the local government area that a stated name means",
            "lga_name", _fields(LgaName), LgaName,
            check=_lookup_findings,
        ),
        Kind(
            "government_funded", "government_funded.csv", "which chargers a government paid for, under which program",
            "funded_asset", ("asset_id", "line", "coordinate_decimals", *_fields(FundedAsset)), FundedAsset, may_be_empty=True, rows=_asset_rows,
        ),
        Kind(
            "cpo_names", "cpo_names.csv", "the CPO that a name in the list of funded assets means",
            "cpo_name", _fields(CpoName), CpoName, is_required=False, may_be_empty=True,
            check=_repeated("listed_name", lambda row: plain(row.listed_name)),
        ),
        Kind(
            "funding_decisions", "funding_decisions.csv", "what people decided about funded assets that could not be matched",
            "funding_decision", _fields(FundingDecision), FundingDecision, is_required=False, may_be_empty=True,
            check=_repeated("asset_id", lambda row: row.asset_id),
        ),
    )
}  # fmt: skip
"""All kinds by name."""
