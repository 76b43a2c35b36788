"""``python -m register``: enter exclusions into the register, and see what stands there."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from register.exclusions import COLUMNS, OPTIONAL, RegisterError, holding, load
from warehouse.connection import Role, WarehouseNotFoundError, connect


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m register", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    entering = commands.add_parser(
        "load",
        help="add the entries of a CSV file",
        description="Add the entries of a CSV file; an entry that stands there with other content gets a new version, and nothing is ever"
        " deleted. Good rows go in; the others are listed with line, field and reason, and the exit status is 1. The next transformation counts"
        f" them. Columns: {', '.join(COLUMNS)} ({' and '.join(sorted(OPTIONAL))} may be left out).",
    )
    entering.add_argument("file", type=Path)
    listing = commands.add_parser("list", help="list the entries as they hold")
    listing.add_argument("--decision", choices=("pending", "approved", "rejected"), help="only these")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        with connect(Role.REGISTRAR) as connection:
            if chosen.command == "load":
                return _load(connection, chosen.file)
            for entry in holding(connection, chosen.decision):
                decided = f"by {entry.decided_by}" if entry.decided_by else ""
                _say(
                    f"{entry.exclusion_id}  {entry.cpo_id} {entry.evse_id}  {entry.excluded_from.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} to"
                    f" {entry.excluded_until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}  {entry.category}  entered by {entry.entered_by}  "
                    f"{entry.decision} {decided}".rstrip()
                    + f"  evidence: {entry.evidence or 'none'}  version {entry.version_count}"
                )
    except (RegisterError, WarehouseNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except psycopg.OperationalError as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.stderr.write(f"the warehouse does not answer: {said} (`make db` starts the embedded one)\n")
        return 2
    return 0


def _load(connection: psycopg.Connection, file: Path) -> int:
    loaded = load(connection, file, datetime.now(UTC))
    for problem in loaded.problems:
        sys.stderr.write(f"{problem}\n")
    _say(f"{file}: {loaded}")
    return 1 if loaded.problems else 0


if __name__ == "__main__":
    sys.exit(main())
