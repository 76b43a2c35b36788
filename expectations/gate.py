"""The gate: Great Expectations over one candidate's rows.

A *critical* expectation that fails blocks; a *warning* is listed in the report and in the manifest. An
expectation that cannot be evaluated blocks, whatever its severity. The suites are
``expectations/suites/*.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expectations.candidate import Candidate, CandidateHeader
from expectations.facts import IDENTITY, TABLES, fact_tables
from expectations.months import first_day
from expectations.report import render
from warehouse.object_store import ObjectStore
from warehouse.strict_yaml import ConfigError, explain

EXAMPLE_COUNT = 5


class GateError(RuntimeError):
    """The gate was not asked, or its stored answer is not about these bytes."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Meta(_Strict):
    """``fact``: what must hold; ``fixed_by``: who mends it, and where."""

    fact: str = Field(min_length=1)
    fixed_by: str = Field(min_length=1)


class Expectation(_Strict):
    """One expectation of a suite file. ``kwargs`` may hold ``{"$PARAMETER": name}``."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]+$")
    type: str = Field(pattern=r"^expect_[a-z0-9_]+$")
    kwargs: dict[str, Any]
    severity: Literal["critical", "warning"]
    meta: Meta


class Suite(_Strict):
    """A suite file: the tables it speaks about, and what must hold for each of them."""

    tables: tuple[str, ...] = Field(min_length=1)
    expectations: tuple[Expectation, ...] = Field(min_length=1)


class Finding(_Strict):
    """What became of one expectation of one table. ``examples`` are a few of the rows that failed."""

    table: str
    name: str
    severity: Literal["critical", "warning"]
    fact: str
    fixed_by: str
    passed: bool
    checked_count: int
    failed_count: int
    examples: tuple[str, ...] = ()
    error: str | None = None

    @property
    def blocks(self) -> bool:
        """Failed, and critical or impossible to evaluate."""
        return not self.passed and (self.severity == "critical" or self.error is not None)

    @property
    def title(self) -> str:
        """``table.name``."""
        return f"{self.table}.{self.name}"

    def sentence(self) -> str:
        """One line: what failed, how often, with examples."""
        if self.error is not None:
            return f"{self.title}: could not be evaluated: {self.error}"
        shown = f": {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.title}: {self.fact} {self.failed_count} of {self.checked_count} rows fail{shown}"


@dataclass(frozen=True)
class GateResult:
    """The gate's answer about one candidate."""

    header: CandidateHeader
    findings: tuple[Finding, ...]
    report_html: str

    @property
    def passed(self) -> bool:
        """No finding blocks. An empty list of findings is no pass."""
        return bool(self.findings) and not any(finding.blocks for finding in self.findings)

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """Findings for which no package may leave."""
        return tuple(finding for finding in self.findings if finding.blocks)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings to read, for which a package may leave all the same."""
        return tuple(finding for finding in self.findings if not finding.passed and not finding.blocks)


class GateBlocked(Exception):
    """No package may leave. The message names each expectation that blocks, with counts and examples."""

    def __init__(self, header: CandidateHeader, blocking: tuple[Finding, ...], report: str = "") -> None:
        self.blocking = blocking
        lines = [f"the gate blocks {header.recipient_id} {header.month}: {len(blocking)} expectations failed"]
        lines += [f"  {finding.sentence()}" for finding in blocking]
        if report:
            lines.append(f"  report: {report}")
        super().__init__("\n".join(lines))


def suites_dir() -> Path:
    """Folder of the suite files."""
    return Path(__file__).with_name("suites")


@cache
def load_suites(folder: Path | None = None) -> dict[str, tuple[Expectation, ...]]:
    """Expectations of every table, in file order. Raises ``ConfigError`` naming file and key.

    Every table has a critical expectation: a table nobody judges is a mistake.
    """
    folder = folder or suites_dir()
    found: dict[str, list[Expectation]] = {table: [] for table in TABLES}
    for path in sorted(folder.glob("*.json")):
        try:
            suite = Suite.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise explain(path, error) from error
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}: not valid JSON: {error}") from error
        for table in suite.tables:
            if table not in found:
                raise ConfigError(f"{path}: tables: '{table}' is none of {', '.join(TABLES)}")
            found[table].extend(suite.expectations)
    for table, expectations in found.items():
        twice = [name for name, count in Counter(e.name for e in expectations).items() if count > 1]
        if twice:
            raise ConfigError(f"{folder}: {table}: expectation '{twice[0]}' stands twice")
    for table, expectations in found.items():
        if not any(expectation.severity == "critical" for expectation in expectations):
            raise ConfigError(f"{folder}: {table}: has no critical expectation")
    return {table: tuple(expectations) for table, expectations in found.items()}


def _parameters(header: CandidateHeader) -> dict[str, list[Any]]:
    """What suites may name as ``{"$PARAMETER": ...}``."""
    return {
        "local_month": [first_day(header.month).isoformat()],
        "states": list(header.states),
        "rule_sets": [header.rule_set],
        "rule_set_versions": [header.rule_set_version],
    }


def _example(table: str, frame: pd.DataFrame, index: int, columns: list[str]) -> str:
    row = frame.iloc[index]
    name = "/".join(str(row[column]) for column in IDENTITY[table])
    figures = ", ".join(f"{column} = {row[column]}" for column in columns if column not in IDENTITY[table])
    return f"{name} ({figures})" if name and figures else name or figures


def _columns(expectation: Expectation) -> list[str]:
    kwargs = expectation.kwargs
    named = [
        kwargs.get("column"),
        kwargs.get("column_A"),
        kwargs.get("column_B"),
        *kwargs.get("column_list", []),
    ]
    return [column for column in named if column is not None]


def _exception(info: dict[str, Any]) -> str | None:
    """Message of an exception that Great Expectations caught while evaluating, if any."""
    if "raised_exception" in info:
        return str(info.get("exception_message")) if info["raised_exception"] else None
    for entry in info.values():
        message = entry.get("exception_message") if isinstance(entry, dict) else entry
        return str(message)
    return None


def _finding(table: str, frame: pd.DataFrame, expectation: Expectation, result: Any | None) -> Finding:
    finding = Finding(
        table=table,
        name=expectation.name,
        severity=expectation.severity,
        fact=expectation.meta.fact,
        fixed_by=expectation.meta.fixed_by,
        passed=False,
        checked_count=len(frame),
        failed_count=0,
        error="Great Expectations gave no result",
    )
    if result is None:
        return finding
    error = _exception(result.exception_info or {})
    outcome = dict(result.result)
    if error is None and "unexpected_count" not in outcome:
        error = "Great Expectations gave no count"
    if error is not None:
        return finding.model_copy(update={"error": error})
    indexes = outcome.get("partial_unexpected_index_list") or []
    examples = tuple(_example(table, frame, index, _columns(expectation)) for index in indexes[:EXAMPLE_COUNT])
    return finding.model_copy(
        update={
            "error": None,
            "passed": bool(result.success),
            "failed_count": int(outcome["unexpected_count"]),
            "examples": examples,
        }
    )


def _judge(
    source: Any,
    table: str,
    frame: pd.DataFrame,
    expectations: tuple[Expectation, ...],
    parameters: dict[str, list[Any]],
) -> list[Finding]:
    """Ask Great Expectations about one table; ``source`` is a data source of a context that knows none of that name."""
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    suite = gx.ExpectationSuite(name=table)
    for expectation in expectations:
        suite.add_expectation_configuration(
            ExpectationConfiguration(
                type=expectation.type,
                kwargs=expectation.kwargs,
                severity=expectation.severity,
                meta={"name": expectation.name, "fact": expectation.meta.fact},
            )
        )
    definition = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("rows")
    validation = definition.get_batch({"dataframe": frame}).validate(
        suite,
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLE_COUNT},
        expectation_parameters=parameters,
    )
    results = {result.expectation_config.meta["name"]: result for result in validation.results}
    return [_finding(table, frame, entry, results.get(entry.name)) for entry in expectations]


def _evaluate(frames: dict[str, pd.DataFrame], header: CandidateHeader) -> tuple[Finding, ...]:
    """Ask Great Expectations, one table after the other."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # Imported here: it takes seconds, and only the check needs it.
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("candidate")
    parameters = _parameters(header)
    findings: list[Finding] = []
    for table, expectations in load_suites().items():
        findings += _judge(source, table, frames[table], expectations, parameters)
    return tuple(findings)


def check(candidate: Candidate) -> GateResult:
    """Judge exactly the rows of a candidate. Never raises for a defect of the rows: it is a finding."""
    findings = _evaluate(fact_tables(candidate), candidate.header)
    return GateResult(candidate.header, findings, render(candidate.header, findings))


def require(result: GateResult, report: str = "") -> None:
    """Raise ``GateBlocked`` unless the gate passed; ``report`` says where the report is."""
    if not result.passed:
        raise GateBlocked(result.header, result.blocking, report)


class GateRecord(_Strict):
    """The gate's answer as stored beside its report: about which bytes it is, and what was found."""

    candidate_digest: str
    passed: bool
    expectation_count: int
    report_sha256: str
    findings: tuple[Finding, ...]
    """Those that did not pass."""


def report_path(header: CandidateHeader) -> str:
    """Where the report of a candidate is kept in the object store."""
    return f"gate/{header.recipient_id}/{header.month}/{header.candidate_id}.html"


def _record_path(header: CandidateHeader) -> str:
    return report_path(header).removesuffix(".html") + ".json"


def store_result(result: GateResult, store: ObjectStore) -> str:
    """Keep report and answer, whatever the answer is; return the report's path. Safe to repeat."""
    report = result.report_html.encode()
    record = GateRecord(
        candidate_digest=result.header.digest,
        passed=result.passed,
        expectation_count=len(result.findings),
        report_sha256=hashlib.sha256(report).hexdigest(),
        findings=tuple(finding for finding in result.findings if not finding.passed),
    )
    store.overwrite(report_path(result.header), report)
    store.overwrite(_record_path(result.header), (record.model_dump_json(indent=1) + "\n").encode())
    return report_path(result.header)


def stored_pass(header: CandidateHeader, store: ObjectStore) -> tuple[GateRecord, bytes]:
    """Return the stored answer and report of a candidate that passed.

    Raises ``GateError`` when the gate was not asked about these bytes, and ``GateBlocked`` when it refused
    them.
    """
    try:
        content = store.get(_record_path(header))
        report = store.get(report_path(header))
    except FileNotFoundError:
        raise GateError(f"the gate was not asked about {header.path}: check it first") from None
    try:
        record = GateRecord.model_validate_json(content)
    except ValidationError as error:
        raise GateError(f"the gate's answer about {header.path} cannot be read: check it again") from error
    if record.candidate_digest != header.digest:
        raise GateError(f"the gate's answer is not about {header.path}: check it again")
    if record.report_sha256 != hashlib.sha256(report).hexdigest():
        raise GateError(f"the gate's report about {header.path} was changed: check it again")
    if not record.passed:
        blocking = tuple(finding for finding in record.findings if finding.blocks)
        raise GateBlocked(header, blocking, store.locate(report_path(header)))
    return record, report
