"""``python -m stack``: Postgres, the simulated CPOs and Airflow on this machine, without Docker."""

from __future__ import annotations

import argparse
import os
import sys

from stack import control
from stack.databases import MigrationError, url_without_password, warehouse_is_elsewhere, warehouse_server
from stack.machine import MachineError
from stack.postgres import PostgresError
from stack.progress import Progress
from stack.supervisor import SupervisorError
from warehouse.connection import Role, WarehouseNotFoundError, warehouse_url

EXPECTED = (
    control.AlreadyRunningError,
    MachineError,
    MigrationError,
    PostgresError,
    SupervisorError,
    WarehouseNotFoundError,
)


def database() -> None:
    """Start only the migrated Postgres and print its URL (alone on standard output)."""
    control.start_database(_whisper)
    sys.stdout.write(control.warehouse_address(Role.OWNER) + "\n")


def psql(role: Role, arguments: list[str]) -> None:
    """Become psql, connected to the warehouse as that role."""
    server = warehouse_server()
    environment = dict(os.environ)
    if warehouse_is_elsewhere():
        url = warehouse_url(role).set(drivername="postgresql")
        environment["PGPASSWORD"] = url.password or ""
        address = url.set(password=None).render_as_string(hide_password=False)
    else:
        address = url_without_password(server, role)
    program = server.binary("psql")
    os.execve(program, [str(program), address, *arguments], environment)


def _whisper(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("db", help="start the migrated Postgres alone and print its URL")
    commands.add_parser("up", help="run everything until Ctrl-C")
    commands.add_parser("down", help="stop everything, whichever terminal started it")
    commands.add_parser("clean", help="stop everything and remove all state")
    commands.add_parser("status", help="say what runs")
    demo = commands.add_parser("demo", help="take a month through the whole path and print its uptime")
    demo.add_argument("--real", action="store_true", help="take the real status histories instead of the simulation")
    query = commands.add_parser("psql", help="open psql on the warehouse")
    query.add_argument("--role", choices=[role.value for role in Role], default="analyst")
    query.add_argument("arguments", nargs="*", help="given to psql, after --")
    chosen = parser.parse_args(arguments)
    progress = Progress()
    try:
        match chosen.command:
            case "db":
                database()
            case "up":
                try:
                    control.up(progress)
                except control.AlreadyRunningError as fact:
                    progress(str(fact))
            case "down":
                control.down(progress)
            case "clean":
                control.clean(progress)
            case "status":
                return 0 if control.status(print) else 3
            case "psql":
                psql(Role(chosen.role), chosen.arguments)
            case "demo":
                # Only this command pays for its imports.
                from stack import demo as demonstration

                return demonstration.main(progress, real=chosen.real)
    except EXPECTED as error:
        sys.stderr.write(f"{chosen.command}: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{chosen.command}: interrupted\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
