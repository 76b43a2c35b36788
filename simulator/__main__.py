"""``python -m simulator``: hand over a past month as files, or serve OCPI now."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from simulator.history import emit_month, emit_truth
from simulator.months import Month
from simulator.server import Replay, Source, WorldSource, build_app
from simulator.world import CPOS, DEFAULT_SEED, FeedKind, World, build_world


def _month(text: str) -> Month:
    try:
        return Month.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above zero")
    return int(text)


def _replay(text: str) -> tuple[str, Path]:
    name, separator, file = text.partition("=")
    if not separator or not name.isidentifier() or not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE with a file that exists")
    return name, Path(file)


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
        description="Write OUT/<cpo_id>/<month>/{assets,changes,contact}.csv.gz, as CPOs hand them over.",
    )
    commands.add_parser(
        "emit-truth",
        parents=[monthly, seeded],
        help="write what a right warehouse finds in those files",
        description="Write OUT/<cpo_id>/<month>/truth.csv.gz: seconds per EVSE, local date and status.",
    )
    serve = commands.add_parser(
        "serve",
        parents=[seeded],
        help="serve OCPI 2.2.1 as of now",
        description="Serve OCPI 2.2.1 Locations of the polled CPOs as of now, below /<cpo_id>/ocpi/versions. "
        "A token for each is read from <CPO_ID>_TOKEN, or from the file named by <CPO_ID>_TOKEN_FILE.",
    )
    serve.add_argument("--port", type=int, required=True, help="0 takes a free one")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument(
        "--replay",
        type=_replay,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="also serve OCPI locations from a JSON file as /NAME/ocpi/versions, token from NAME_TOKEN",
    )
    return top


def _token(name: str) -> str:
    """Return a feed's token. Raises ``SystemExit`` naming the variable that is not set."""
    variable = f"{name.upper()}_TOKEN"
    if token := os.environ.get(variable, "").strip():
        return token
    if file := os.environ.get(f"{variable}_FILE"):
        return Path(file).read_text(encoding="utf-8").strip()
    raise SystemExit(f"set {variable} (or {variable}_FILE): the token that clients of '{name}' must send")


def _serve(world: World, host: str, port: int, replays: Sequence[tuple[str, Path]]) -> None:
    sources: dict[str, Source] = {cpo.cpo_id: WorldSource(world, cpo) for cpo in CPOS if cpo.kind is FeedKind.POLLED}
    for name, file in replays:
        if name in sources:
            raise SystemExit(f"--replay {name}: there is a feed of that name already")
        try:
            sources[name] = Replay.of(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise SystemExit(f"--replay {name}: {file}: {error}") from error
    app = build_app(sources, {name: _token(name) for name in sources})
    uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; those that write print the paths of their files."""
    options = parser().parse_args(arguments)
    world = build_world(options.seed)
    if options.command == "serve":
        _serve(world, options.host, options.port, options.replay)
        return 0
    emit = {"emit-history": emit_month, "emit-truth": emit_truth}[options.command]
    for path in emit(world, options.month, options.out, [options.cpo] if options.cpo else None, options.days):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
