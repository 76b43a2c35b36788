"""``python -m extracts``: build a month's package, list what was published, or explain a figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import psycopg

from expectations.candidate import CandidateError
from expectations.gate import GateBlocked, GateError
from expectations.months import first_day
from extracts.explain import ExplanationError, Question, QuestionError, explain
from extracts.explain_report import as_json, as_text
from extracts.locks import LockLostError
from extracts.publish import ROOT, PublishError, published
from extracts.recipients import load_recipients
from extracts.snapshot import SelectError
from extracts.tasks import check_rows, publish_rows, select_rows
from warehouse.connection import Role, WarehouseNotFoundError, connect
from warehouse.object_store import ObjectStoreError, open_store
from warehouse.strict_yaml import ConfigError


def _month(text: str) -> str:
    try:
        first_day(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _reason(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("say why")
    return text.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m extracts",
        description="Monthly extracts: select the rows, have the gate judge them, publish them once.",
        epilog="Exit codes: 0 done, 1 blocked by the gate or not borne out by the spans, 2 wrong usage or configuration, "
        "3 the warehouse or the object store failed.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("build", "select, check and publish a month"),
        ("select", "only set the month's rows aside, for `python -m expectations check`"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--recipient", required=True, metavar="ID", help="a block of config/recipients.yml")
        command.add_argument("--month", required=True, type=_month, metavar="YYYY-MM")
        if name == "build":
            command.add_argument(
                "--revision-reason",
                type=_reason,
                metavar="TEXT",
                help="why a month that is already published is published again",
            )
    listing = commands.add_parser("list", help="list the published packages", description="List the packages.")
    listing.add_argument("--recipient", metavar="ID", help="only of this recipient")
    why = commands.add_parser(
        "explain",
        help="show why an EVSE's, charger's or site's uptime is what it is",
        description="Print the arithmetic of a month's uptime and the spans under it, checked against the marts. The smallest "
        "thing that is named is explained; an id that several have is told apart by the others.",
    )
    why.add_argument("--evse", metavar="ID", help="the source's id, or the eMI3 id on the charger")
    why.add_argument("--charger", metavar="ID")
    why.add_argument("--site", metavar="ID")
    why.add_argument("--cpo", metavar="ID")
    why.add_argument("--month", required=True, type=_month, metavar="YYYY-MM")
    why.add_argument(
        "--rule-set", default="evc_2025", metavar="NAME[@VERSION]", help="by default evc_2025, the newest version"
    )
    why.add_argument("--format", choices=("text", "json"), default="text")
    return parser


def _build(arguments: argparse.Namespace) -> None:
    candidate_path = select_rows(arguments.recipient, arguments.month)
    check_rows(candidate_path)
    package, place = publish_rows(candidate_path, arguments.revision_reason)
    if not package.is_new:
        hint = "" if arguments.revision_reason else " (a new revision needs --revision-reason)"
        print(f"already published, nothing written{hint}", file=sys.stderr)
    print(place)


def _list(only: str | None) -> None:
    for each in load_recipients().values():
        if only in (None, each.recipient_id):
            store = open_store(each.destination_url)
            for package in published(store, f"{ROOT}/{each.recipient_id}"):
                told = package.manifest
                counts = ", ".join(
                    f"{name.removesuffix('.csv')} {entry['row_count']}"
                    for name, entry in told["files"].items()
                    if name.endswith(".csv")
                )
                reason = f", because: {told['reason']}" if told["reason"] else ""
                print(f"{store.locate(package.path)}: cut-off {told['cut_off']}, {counts}{reason}")


def _explain(arguments: argparse.Namespace) -> None:
    question = Question(
        arguments.month, arguments.rule_set, arguments.evse, arguments.charger, arguments.site, arguments.cpo
    )
    with connect(Role.EXTRACT) as connection:
        explanation = explain(connection, question)
    if arguments.format == "json":
        print(as_json(explanation))
    else:
        for line in as_text(explanation):
            print(line)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "build":
            _build(parsed)
        elif parsed.command == "select":
            print(select_rows(parsed.recipient, parsed.month))
        elif parsed.command == "explain":
            _explain(parsed)
        else:
            _list(parsed.recipient)
    except (GateBlocked, ExplanationError) as blocked:
        print(blocked, file=sys.stderr)
        return 1
    except (ConfigError, WarehouseNotFoundError, SelectError, CandidateError, GateError, QuestionError) as error:
        print(error, file=sys.stderr)
        return 2
    except (ObjectStoreError, PublishError, LockLostError) as error:
        print(error, file=sys.stderr)
        return 3
    except psycopg.Error as error:
        first_line = (str(error).splitlines() or [""])[0]
        print(f"warehouse: {type(error).__name__}: {first_line}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
