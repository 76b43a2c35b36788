"""``python -m warehouse``: migrate the database, print a connection URL, run the transformation, verify what it left."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime

from warehouse.connection import REPOSITORY, Role, WarehouseNotFoundError, warehouse_url


def migrate() -> None:
    """Bring schema ``raw``, the roles and their grants to the newest version; safe to repeat."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "warehouse" / "migrations"))
    command.upgrade(config, "head")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m warehouse", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", help="bring the database to the newest schema")
    url = commands.add_parser("url", help="print the URL that connects as a role (it holds a password)")
    url.add_argument("--role", choices=[role.value for role in Role], default="analyst")
    run = commands.add_parser("transform", help="build the marts from raw")
    run.add_argument(
        "--full-refresh", action="store_true", help="recompute every EVSE and day, not only the touched ones"
    )
    run.add_argument(
        "--as-of",
        type=datetime.fromisoformat,
        help="cut-off with its UTC offset, for example 2026-11-01T00:00:00+00:00: rows recorded later are not read"
        " (needs --full-refresh)",
    )
    commands.add_parser(
        "verify",
        help="build all marts anew for the last run's cut-off, beside those that stand, and compare; runs wait meanwhile",
        epilog="Exit codes: 0 equal, 1 different (or nothing to compare), 2 no warehouse.",
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "migrate":
            migrate()
        elif chosen.command == "url":
            place = warehouse_url(Role(chosen.role)).set(drivername="postgresql")
            sys.stdout.write(place.render_as_string(hide_password=False) + "\n")
        elif chosen.command == "verify":
            from warehouse.transform import TransformError
            from warehouse.verify import verify

            try:
                compared = verify()
            except TransformError as error:
                sys.stderr.write(f"verify: {error}\n")
                return 1
            sys.stdout.writelines(f"{table}\n" for table in compared)
            return 0 if all(table.is_equal for table in compared) else 1
        else:
            # dbt takes seconds to import: only this command pays.
            from warehouse.transform import TransformError, transform

            try:
                transform(full_refresh=chosen.full_refresh, as_of=chosen.as_of)
            except (TransformError, ValueError) as error:
                sys.stderr.write(f"transform: {error}\n")
                return 1
    except WarehouseNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    os.environ.setdefault("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
    sys.exit(main())
