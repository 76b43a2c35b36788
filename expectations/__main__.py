"""``python -m expectations``: ask the gate about a stored candidate, or list what it asks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from expectations.candidate import CandidateError, load_candidate, newest_candidate
from expectations.gate import check, load_suites, store_result
from expectations.months import first_day
from warehouse.object_store import ObjectStoreError, open_store
from warehouse.strict_yaml import ConfigError


def _month(text: str) -> str:
    try:
        first_day(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m expectations",
        description="What must hold before an extract may leave.",
        epilog="Exit codes: 0 passed, 1 blocked, 2 wrong usage or configuration, 3 the object store failed.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="judge a stored candidate and keep the report")
    checking.add_argument("--recipient", required=True, metavar="ID")
    checking.add_argument("--month", required=True, type=_month, metavar="YYYY-MM")
    checking.add_argument("--candidate", metavar="PATH", help="its path in the object store; default: the last one")
    commands.add_parser("list", help="list every expectation: table, name, severity, fact")
    return parser


def _check(arguments: argparse.Namespace) -> int:
    store = open_store()
    path = arguments.candidate or newest_candidate(arguments.recipient, arguments.month, store)
    candidate = load_candidate(path, store)
    header = candidate.header
    if (header.recipient_id, header.month) != (arguments.recipient, arguments.month):
        raise CandidateError(f"{path} is of {header.recipient_id} for {header.month}")
    result = check(candidate)
    report = store_result(result, store)
    for finding in (*result.blocking, *result.warnings):
        print(f"{'BLOCKS ' if finding.blocks else 'warning'} {finding.sentence()}")
    verdict = "passed" if result.passed else "BLOCKED"
    print(f"{verdict}: {len(result.findings)} expectations over {path}")
    print(f"report: {store.locate(report)}")
    return 0 if result.passed else 1


def _list() -> int:
    for table, expectations in load_suites().items():
        for expectation in expectations:
            print(f"{table}.{expectation.name} [{expectation.severity}] {expectation.meta.fact}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return _list() if parsed.command == "list" else _check(parsed)
    except (CandidateError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    except ObjectStoreError as error:
        print(error, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
