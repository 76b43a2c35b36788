"""``python -m reference``: load reference files, and find the areas that sites lie in."""

from __future__ import annotations

import argparse
import getpass
import sys

import psycopg

from reference.kinds import KINDS
from reference.loading import load
from reference.locating import locate
from reference.reading import ReferenceFileError
from warehouse.connection import Role, WarehouseNotFoundError, connect
from warehouse.object_store import ObjectStoreError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser(
        "load",
        help="load reference files: all of them, or none",
        description="Load reference files in one transaction; when anything is wrong or missing, it is all listed and nothing is loaded.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="files:\n"
        + "\n".join(
            f"  {kind.file:27} {kind.purpose}{'' if kind.is_required else ' (may be missing)'}"
            for kind in KINDS.values()
        ),
    )
    files.add_argument("--url", help="folder, or URL of one (default: reference/ in the object store)")
    files.add_argument("--kind", action="append", choices=list(KINDS), default=[], help="only this; may be repeated")
    files.add_argument("--by", default=None, help="who loads them (default: the user of this machine)")
    commands.add_parser(
        "locate",
        help="find the areas of coordinates that are new since the last load",
        description="Find the local government area and the postcode of every site and funded asset whose coordinates are new. Before each transformation.",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        with connect(Role.REGISTRAR) as connection:
            if chosen.command == "load":
                for loaded in load(
                    connection, url=chosen.url, kinds=chosen.kind, loaded_by=chosen.by or getpass.getuser()
                ):
                    sys.stdout.write(f"{loaded}\n")
            else:
                sys.stdout.write(f"{locate(connection)} coordinates located\n")
    except (ReferenceFileError, ObjectStoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except WarehouseNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except psycopg.OperationalError as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.stderr.write(f"the warehouse does not answer: {said} (`make db` starts the embedded one)\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
