"""The gate's report: one self-contained page, every text escaped, the same bytes for the same findings."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Protocol

from expectations.candidate import CandidateHeader

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { padding: .6rem 1rem; border-left: .5rem solid; font-weight: 600; }
.is-passed { border-color: #1a7f4b; background: #e9f6ef; }
.is-blocked { border-color: #b3261e; background: #fbeceb; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: 600; padding: .8rem 0 .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #d5dae2; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.passed { color: #1a7f4b; }
.warning { color: #8a5a00; font-weight: 600; }
.blocks { color: #b3261e; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
code { font-size: .9em; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; } tr { break-inside: avoid; } }
"""


class FindingLike(Protocol):
    """What the report shows of a finding."""

    @property
    def table(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def fact(self) -> str: ...
    @property
    def fixed_by(self) -> str: ...
    @property
    def passed(self) -> bool: ...
    @property
    def blocks(self) -> bool: ...
    @property
    def checked_count(self) -> int: ...
    @property
    def failed_count(self) -> int: ...
    @property
    def examples(self) -> tuple[str, ...]: ...
    @property
    def error(self) -> str | None: ...


def _outcome(finding: FindingLike) -> str:
    if finding.passed:
        return '<span class="passed">passed</span>'
    if finding.blocks:
        return '<span class="blocks">failed: blocks</span>'
    return '<span class="warning">failed: warning</span>'


def _row(finding: FindingLike) -> str:
    detail = ""
    if finding.error is not None:
        detail = f"<br>Could not be evaluated: <code>{escape(finding.error)}</code>"
    if finding.examples:
        items = "".join(f"<li><code>{escape(example)}</code></li>" for example in finding.examples)
        detail += f"<ul>{items}</ul>"
    if not finding.passed:
        detail += f"<br>Mended by: {escape(finding.fixed_by)}"
    return (
        f"<tr><td>{_outcome(finding)}</td><td>{escape(finding.severity)}</td><td><code>{escape(finding.name)}</code></td>"
        f"<td>{escape(finding.fact)}{detail}</td><td class=number>{finding.checked_count:,}</td>"
        f"<td class=number>{finding.failed_count:,}</td></tr>"
    )


def _table(caption: str, findings: Iterable[FindingLike]) -> str:
    head = "<tr><th>Outcome<th>Severity<th>Expectation<th>What must hold<th>Rows<th>Failed</tr>"
    rows = "\n".join(_row(finding) for finding in findings)
    return f"<table><caption>{escape(caption)}</caption><thead>{head}</thead><tbody>\n{rows}\n</tbody></table>"


def render(header: CandidateHeader, findings: Iterable[FindingLike]) -> str:
    """Return the page: the verdict, what failed, and every expectation by table."""
    findings = list(findings)
    failed = [finding for finding in findings if not finding.passed]
    blocking = [finding for finding in failed if finding.blocks]
    is_blocked = bool(blocking) or not findings
    warned = f"{len(failed) - len(blocking)} warnings"
    verdict = f"Blocked: {len(blocking)} expectations, {warned}" if is_blocked else f"Passed, {warned}"
    title = f"Gate report: {header.recipient_name}, {header.month}"
    facts = {
        "Recipient": f"{header.recipient_name} ({header.recipient_id})",
        "Month": header.month,
        "States": ", ".join(header.states),
        "Rule-set": f"{header.rule_set}, version {header.rule_set_version}",
        "Cut-off of the data": header.as_of.isoformat().replace("+00:00", "Z"),
        "Candidate": header.candidate_id,
        "Rows": ", ".join(f"{name} {entry.row_count:,}" for name, entry in sorted(header.files.items())),
        "Expectations": f"{len(findings)}, of which {len(findings) - len(failed)} passed",
    }
    described = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {"is-blocked" if is_blocked else "is-passed"}">{escape(verdict)}</p>',
        f"<dl>{described}</dl>",
    ]
    if failed:
        ordered = [*blocking, *(finding for finding in failed if not finding.blocks)]
        parts.append("<h2>What failed</h2>")
        for table in dict.fromkeys(finding.table for finding in ordered):
            parts.append(_table(table, [finding for finding in ordered if finding.table == table]))
    parts.append("<h2>Everything that was asked</h2>")
    for table in dict.fromkeys(finding.table for finding in findings):
        parts.append(_table(table, [finding for finding in findings if finding.table == table]))
    parts.append("</body></html>\n")
    return "\n".join(parts)
