"""What is in a package: the files' bytes and the manifest. Pure functions.

* CSV: UTF-8 without a byte order mark, RFC 4180 (comma, CRLF, quotes where needed and doubled inside); an absent
  value is an empty field; times are RFC 3339 in UTC, dates ISO 8601; ratios have ten decimals, minutes six, kW
  three, degrees seven.
* Parquet: the same rows and columns, typed (decimals for ratios, times with zone), unrounded.

Internal keys stay inside. The same candidate gives the same bytes; only the manifest says when it was made.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from expectations.candidate import LEVELS, SECONDS, Candidate, parquet_bytes
from expectations.formulas import formulas, ratios, rounded
from expectations.gate import GateRecord

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
GATE_REPORT = "gate_report.html"

KNOWN_LIMITS = (
    "Every figure comes from status observations and asset descriptions; energy and power are not measured.",
    "A status feed may not tell charging from merely occupied; in-use time then holds both.",
    "Evidenced exclusions (planned maintenance and the like) are not applied.",
    "Assets are described as they were at the cut-off, also for the days before a description changed.",
)


def _public(table: Any) -> Any:
    """The columns that leave: all but internal keys."""
    return table.select([name for name in table.column_names if not name.endswith("_key")])


def _text(value: Any, decimals: int) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float | Decimal):
        return f"{value:.{decimals}f}"
    return str(value)


def _decimals(field: Any) -> int:
    """Digits after the point of a column of numbers."""
    if hasattr(field.type, "scale"):
        return int(field.type.scale)
    return 6 if field.name.endswith("_minutes") else 7


def csv_bytes(table: Any) -> bytes:
    """Write a table as CSV, with a header row."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.column_names)
    columns = [
        [_text(value, decimals) for value in column.to_pylist()]
        for column, decimals in zip(table.columns, map(_decimals, table.schema), strict=True)
    ]
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def data_files(candidate: Candidate, gate_report: bytes) -> dict[str, bytes]:
    """Every file of a package but the manifest, by name."""
    files = {}
    for level in LEVELS:
        table = _public(candidate.tables[level])
        files[f"{level}.csv"] = csv_bytes(table)
        files[f"{level}.parquet"] = parquet_bytes(table)
    files[GATE_REPORT] = gate_report
    return files


def _pooled(rows: Iterable[dict[str, Any]], rule_set: str) -> dict[str, Any]:
    """Figures of a pool of sites: sums of EVSE-seconds, and the ratios they give."""
    rows = list(rows)
    seconds = {name: sum(row[name] for row in rows) for name in SECONDS}
    exact = ratios(seconds, formulas()[rule_set])
    told = {name: rounded(ratio) for name, ratio in exact.items()}
    return {
        "site_count": len(rows),
        "evse_count": sum(row["evse_count"] for row in rows),
        **{name: None if ratio is None else float(ratio) for name, ratio in told.items()},
        **{name: seconds[name] for name in ("in_service_seconds", "measured_seconds", "up_seconds", "down_seconds")},
        "not_known_seconds": seconds["unknown_seconds"] + seconds["missing_seconds"],
    }


def coverage_summary(candidate: Candidate) -> dict[str, Any]:
    """The whole extract's figures, and those of each CPO in it."""
    rows = candidate.tables["sites"].to_pylist()
    rule_set = candidate.header.rule_set
    cpos = sorted({(row["cpo_id"], row["cpo_name"]) for row in rows})
    return {
        "all": _pooled(rows, rule_set),
        "by_cpo": [
            {
                "cpo_id": cpo_id,
                "cpo_name": name,
                **_pooled((row for row in rows if row["cpo_id"] == cpo_id), rule_set),
            }
            for cpo_id, name in cpos
        ],
    }


def _known_limits(candidate: Candidate) -> list[str]:
    limits = list(KNOWN_LIMITS)
    connectors = candidate.tables["connectors"].select(["evse_key", "measured_seconds"]).to_pylist()
    nothing_known = {row["evse_key"] for row in connectors if row["measured_seconds"] == 0}
    if nothing_known:
        limits.append(f"Of {len(nothing_known)} EVSEs in service nothing was measured; they have a row.")
    if candidate.header.unplaced_evse_count:
        limits.append(f"{candidate.header.unplaced_evse_count} EVSEs have no state and are in no extract.")
    return limits


def manifest(
    candidate: Candidate,
    gate: GateRecord,
    files: dict[str, bytes],
    *,
    revision: int,
    reason: str | None,
    created_at: datetime,
) -> bytes:
    """The package's description of itself."""
    header = candidate.header
    rows = {f"{level}.{kind}": candidate.tables[level].num_rows for level in LEVELS for kind in ("csv", "parquet")}
    document = {
        "schema_version": SCHEMA_VERSION,
        "recipient_id": header.recipient_id,
        "recipient_name": header.recipient_name,
        "month": header.month,
        "revision": revision,
        "reason": reason,
        "states": list(header.states),
        "rule_set": header.rule_set,
        "rule_set_version": header.rule_set_version,
        "status_profiles": header.status_profiles,
        "cut_off": _text(header.as_of, 0),
        "created_at": _text(created_at, 0),
        "candidate_id": header.candidate_id,
        "files": {
            name: {
                "sha256": hashlib.sha256(content).hexdigest(),
                "size_bytes": len(content),
                **({"row_count": rows[name]} if name in rows else {}),
            }
            for name, content in sorted(files.items())
        },
        "coverage_summary": coverage_summary(candidate),
        "gate": {
            "passed": gate.passed,
            "expectation_count": gate.expectation_count,
            "warnings": [
                {
                    "expectation": finding.title,
                    "fact": finding.fact,
                    "failed_count": finding.failed_count,
                    "checked_count": finding.checked_count,
                    "examples": list(finding.examples),
                }
                for finding in gate.findings
            ],
        },
        "known_limits": _known_limits(candidate),
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
