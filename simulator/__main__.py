"""``python -m simulator``: hand over a past month as files, or serve OCPI now."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.history import emit_month, emit_truth
from simulator.months import Month
from simulator.world import CPOS, DEFAULT_SEED, build_world


def _month(text: str) -> Month:
    try:
        return Month.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above zero")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    seeded = argparse.ArgumentParser(add_help=False)
    seeded.add_argument("--seed", type=int, default=DEFAULT_SEED, help="which world (default: %(default)s)")
    monthly = argparse.ArgumentParser(add_help=False)
    monthly.add_argument("--month", type=_month, required=True, help="local month, YYYY-MM")
    monthly.add_argument("--out", type=Path, required=True, help="folder to write to")
    monthly.add_argument("--cpo", choices=[cpo.cpo_id for cpo in CPOS], help="one CPO (default: all)")
    monthly.add_argument("--days", type=_positive, help="only the first days of the month")
    commands.add_parser(
        "emit-history",
        parents=[monthly, seeded],
        help="write a month as history files",
        description="Write OUT/<cpo_id>/<month>/{assets,changes,contact}.csv.gz, as a CPO would hand them over.",
    )
    commands.add_parser(
        "emit-truth",
        parents=[monthly, seeded],
        help="write what a right warehouse finds in those files",
        description="Write OUT/<cpo_id>/<month>/truth.csv.gz: seconds per EVSE, local date and status.",
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; prints the files it wrote."""
    options = parser().parse_args(arguments)
    world = build_world(options.seed)
    emit = {"emit-history": emit_month, "emit-truth": emit_truth}[options.command]
    for path in emit(world, options.month, options.out, [options.cpo] if options.cpo else None, options.days):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
