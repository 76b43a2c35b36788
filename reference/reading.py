"""Turn the bytes of a reference file into rows, or into the list of all that is wrong with it. Pure functions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from shapely import GEOSException

from reference.kinds import Area, Kind, Numbered, Row
from reference.locating import whole

_BOX = (90, -60, 180, 0)
"""West, south, east, north: where an Australian boundary can be, with its waters."""


class ReferenceFileError(ValueError):
    """Reference files cannot be loaded; one line per reason."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = list(reasons)


def read(kind: Kind, content: bytes) -> list[Numbered]:
    """Return the rows of a file of a kind.

    Raises ``ReferenceFileError`` with a line per error: file, line (or feature), field, what is wrong.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReferenceFileError([f"{kind.file}: not UTF-8 at byte {error.start}"]) from None
    before, nul, _ = text.partition("\0")
    if nul:
        # Postgres stores none.
        raise ReferenceFileError([f"{kind.file} line {before.count(chr(10)) + 1}: there is a NUL in it"])
    errors: list[str] = []
    rows = list(_features(kind, text, errors) if kind.row is None else _records(kind, kind.row, text, errors))
    where = "feature" if kind.row is None else "line"
    errors += [f"{kind.file} {where} {number}, {field}: {reason}" for number, field, reason in kind.check(rows)]
    if not rows and not errors and not kind.may_be_empty:
        errors.append(f"{kind.file}: there is not a single {'feature' if kind.row is None else 'row'} in it")
    if errors:
        raise ReferenceFileError(errors)
    return rows


def _records(kind: Kind, row: type[Row], text: str, errors: list[str]) -> Iterator[Numbered]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        columns = list(row.model_fields)
        lacking, foreign = [
            [*filter(lambda name: name not in there, names)] for names, there in ((columns, header), (header, columns))
        ]
        errors += [f"{kind.file} line 1, {name}: this column is missing" for name in lacking]
        errors += [f"{kind.file} line 1, {name or '(no name)'}: nobody knows this column" for name in foreign]
        if len(set(header)) < len(header):
            errors.append(f"{kind.file} line 1: a column is there twice")
        if errors:
            return
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            line = reader.line_num
            if len(fields) != len(header):
                errors.append(f"{kind.file} line {line}: {len(fields)} fields, the header has {len(header)}")
                continue
            told = {name: field.strip() or None for name, field in zip(header, fields, strict=True)}
            try:
                yield Numbered(line, row.model_validate(told))
            except ValidationError as error:
                errors += [f"{kind.file} line {line}{found}" for found in _findings(error, told)]
    except csv.Error as error:
        errors.append(f"{kind.file} line {reader.line_num}: {error}")


def _findings(error: ValidationError, told: dict[str, str | None]) -> Iterator[str]:
    for found in error.errors():
        field = str(found["loc"][0]) if found["loc"] else None
        if field is None:
            yield f": {found['ctx']['error']}"
        elif told[field] is None:
            yield f", {field}: is empty"
        elif found["type"] == "value_error":
            yield f", {field}: {found['ctx']['error']}"
        else:
            yield f", {field}: '{told[field]}': {found['msg']}"


def _features(kind: Kind, text: str, errors: list[str]) -> Iterator[Numbered]:
    try:
        collection = json.loads(text)
        features = list(collection["features"])
    except (ValueError, KeyError, TypeError):
        errors.append(f"{kind.file}: not a GeoJSON FeatureCollection")
        return
    for number, feature in enumerate(features, start=1):
        try:
            yield Numbered(number, _area(kind, feature))
        except ReferenceFileError as error:
            errors += [f"{kind.file} feature {number}, {reason}" for reason in error.reasons]


def _area(kind: Kind, feature: Any) -> Area:
    """Raises ``ReferenceFileError`` with field and reason."""
    code_field, name_field = kind.area_fields
    properties = feature.get("properties") if isinstance(feature, dict) else None
    named = {str(name).lower(): value for name, value in properties.items()} if isinstance(properties, dict) else {}
    code, name = (str(named.get(field) or "").strip() for field in (code_field, name_field))
    lacking = [field for field, value in ((code_field, code), (name_field, name)) if not value]
    if lacking:
        raise ReferenceFileError([f"{field}: is empty" for field in dict.fromkeys(lacking)])
    try:
        code = kind.area_code(code)
    except ValueError as error:
        raise ReferenceFileError([f"{code_field}: {error}"]) from None
    geometry = feature.get("geometry")
    try:
        found = whole(geometry)
    except (GEOSException, ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise ReferenceFileError([f"geometry: {name} has none that can be read"]) from None
    if found.geom_type not in ("Polygon", "MultiPolygon") or found.is_empty:
        raise ReferenceFileError([f"geometry: that of {name} is no polygon"])
    west, south, east, north = found.bounds
    if not (_BOX[0] <= west and _BOX[1] <= south and east <= _BOX[2] and north <= _BOX[3]):
        raise ReferenceFileError([f"geometry: {name} is not in Australia; coordinates are degrees, longitude first"])
    return Area(code, name, geometry)
