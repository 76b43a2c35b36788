"""``python -m simulator``: hand over a past month as files, or speak as CPOs do now, in every protocol."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from simulator.dropping import DropOrder, drop
from simulator.history import emit_month, emit_truth
from simulator.months import Month
from simulator.quick import QuickSource
from simulator.reference import emit_reference
from simulator.server import build_app, server_config
from simulator.serving import Feed
from simulator.sources import Hub, Replay, Source, WorldSource
from simulator.switchboard import FaultSwitch, catalogue
from simulator.world import CPOS, DEFAULT_SEED, FeedKind, World, build_world

_SERVE = """\
Serve CPOs as of now, each in every protocol:

  /<feed>/ocpi/versions           OCPI 2.1.1 (raw token), 2.2.1 and 2.3.0 (base64): Locations with date_from and
                                  date_to, credentials. A hub speaks 2.2.1 and 2.3.0
  /<feed>/rest/<paging>/<list>    JSON; paging: none, page, offset, cursor, link; list: stations (everything), or
                                  points and statuses, joined by ref. The token in X-Api-Key, as bearer, in ?api_key=,
                                  or as basic authentication of user <feed>
  /<feed>/oauth/token             a bearer token for it (client credentials: id <feed>, secret the token)
  /<feed>/ws                      WebSocket; send {"action": "subscribe", "snapshot": true} first
  /<feed>/sse?snapshot=true       Server-Sent Events; Last-Event-ID resumes
  /<feed>/credentials             below each OCPI version: register, and only the new token counts

and told what to do:

  POST   /control/<feed>/push     {"kind": "ocpi", "url": versions, "token": ..} or {"kind": "rest", "url": ..}
  POST   /control/<feed>/register {"url": versions of a receiver, "token": .., "version": ..}
  POST   /control/<feed>/drop     {"folder": .., "every": 60, "format": "csv", "what": "snapshots"}
  POST   /control/<feed>/fault    {"name": .., "requests": n, "probability": p, ..}; DELETE switches off
  GET    /control/faults          all faults; /control/<feed>/fault those that are on
  GET    /control/<feed>/changes?since=..&until=..   the truth; /words?at=.. of every EVSE; /log what was told

The token of each feed is read from <FEED>_TOKEN, or from the file named by <FEED>_TOKEN_FILE.
"""


_CPO_IDS = [cpo.cpo_id for cpo in CPOS]


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
        description="Write OUT/<cpo_id>/<month>/{assets,changes,contact}.csv.gz, as CPOs hand them over.",
    )
    commands.add_parser(
        "emit-truth",
        parents=[monthly, seeded],
        help="write what a right warehouse finds in those files",
        description="Write OUT/<cpo_id>/<month>/truth.csv.gz: seconds per EVSE, local date and status.",
    )
    reference = commands.add_parser(
        "emit-reference",
        parents=[seeded],
        help="write reference files of the world",
        description="Write the files that `python -m reference load --url OUT` asks for: areas that are squares, and an invented list of funded assets.",
    )
    reference.add_argument("--out", type=Path, required=True, help="folder to write to")
    serve = commands.add_parser(
        "serve",
        parents=[seeded],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="speak as CPOs do now: OCPI, REST, WebSocket, SSE, pushes, files",
        description=_SERVE,
        epilog=f"faults:\n{catalogue()}",
    )
    serve.add_argument("--port", type=int, required=True, help="0 takes a free one")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument(
        "--cpo", action="append", choices=_CPO_IDS, help="which CPO, may be repeated (default: those that are polled)"
    )
    for option, of, what in (
        ("--hub", _hub, "NAME=CPO,CPO: also serve several CPOs over one connection"),
        ("--quick", _quick, "NAME=EVSES,SECONDS: also serve EVSEs that change every so many seconds"),
        ("--replay", _replay, "NAME=FILE: also serve OCPI locations from a JSON file"),
    ):
        serve.add_argument(
            option, type=of, action="append", default=[], metavar=what.partition(":")[0], help=what.partition(": ")[2]
        )
    files = commands.add_parser(
        "drop-files",
        parents=[seeded],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="leave files in a folder as time goes by",
        description="Write OUT/<what>_<time>.<format> every so many seconds, until stopped.",
        epilog=f"faults:\n{catalogue('files')}",
    )
    files.add_argument("--cpo", choices=_CPO_IDS, help="a CPO of the world")
    files.add_argument("--quick", type=_quick, metavar="NAME=EVSES,SECONDS", help="instead: EVSEs that change quickly")
    files.add_argument("--out", type=Path, required=True, help="folder to write to")
    files.add_argument("--every", type=float, default=60, help="seconds between files (default: %(default)s)")
    files.add_argument("--format", choices=["csv", "parquet", "json"], default="csv")
    files.add_argument("--what", choices=["snapshots", "changes"], default="snapshots")
    files.add_argument("--fault", action="append", default=[], type=_fault, metavar="NAME", help="have a fault on")
    return top


def _named(text: str, form: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier() or not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not {form}")
    return name, value


def _replay(text: str) -> tuple[str, Path]:
    name, file = _named(text, "NAME=FILE")
    if not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE with a file that exists")
    return name, Path(file)


def _hub(text: str) -> tuple[str, list[str]]:
    name, members = _named(text, "NAME=CPO,CPO")
    if unknown := set(members.split(",")) - set(_CPO_IDS):
        raise argparse.ArgumentTypeError(f"no CPO {', '.join(sorted(unknown))}, there are: {', '.join(_CPO_IDS)}")
    return name, members.split(",")


def _quick(text: str) -> tuple[str, int, float]:
    name, numbers = _named(text, "NAME=EVSES,SECONDS")
    count, _, seconds = numbers.partition(",")
    try:
        return name, int(count), float(seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=EVSES,SECONDS") from None


def _fault(text: str) -> FaultSwitch:
    try:
        return FaultSwitch(name=text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _token(name: str) -> str:
    """Return a feed's token. Raises ``SystemExit`` naming the variable that is not set."""
    variable = f"{name.upper()}_TOKEN"
    if token := os.environ.get(variable, "").strip():
        return token
    if file := os.environ.get(f"{variable}_FILE"):
        return Path(file).read_text(encoding="utf-8").strip()
    raise SystemExit(f"set {variable} (or {variable}_FILE): the token that clients of '{name}' must send")


def _serve(world: World, options: argparse.Namespace) -> None:
    known = {cpo.cpo_id: WorldSource(world, cpo) for cpo in CPOS}
    polled = [cpo.cpo_id for cpo in CPOS if cpo.kind is FeedKind.POLLED]
    sources: dict[str, Source] = {cpo_id: known[cpo_id] for cpo_id in options.cpo or polled}
    more: list[tuple[str, str, Source]] = []
    more += [("--hub", name, Hub(tuple(known[member] for member in members))) for name, members in options.hub]
    more += [("--quick", name, QuickSource(options.seed, count, seconds)) for name, count, seconds in options.quick]
    for name, file in options.replay:
        try:
            more.append(("--replay", name, Replay.of(json.loads(file.read_text(encoding="utf-8")))))
        except ValueError as error:
            raise SystemExit(f"--replay {name}: {file}: {error}") from error
    for option, name, source in more:
        if name in sources:
            raise SystemExit(f"{option} {name}: there is a feed of that name already")
        sources[name] = source
    app = build_app(sources, {name: _token(name) for name in sources})
    uvicorn.Server(server_config(app, host=options.host, port=options.port, timeout_graceful_shutdown=2)).run()


def _drop(world: World, options: argparse.Namespace) -> None:
    if (options.cpo is None) == (options.quick is None):
        raise SystemExit("name either --cpo or --quick")
    source: Source
    if options.quick:
        name, count, seconds = options.quick
        source = QuickSource(options.seed, count, seconds)
    else:
        name, source = options.cpo, WorldSource(world, world.cpo(options.cpo))
    feed = Feed(name, source, "")
    for fault in options.fault:
        feed.board.switch_on(fault)
    order = DropOrder(folder=options.out, every=options.every, format=options.format, what=options.what)
    with suppress(KeyboardInterrupt):
        asyncio.run(drop(feed, order))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; those that write print the paths of their files."""
    options = parser().parse_args(arguments)
    world = build_world(options.seed)
    if options.command == "serve":
        _serve(world, options)
        return 0
    if options.command == "drop-files":
        _drop(world, options)
        return 0
    if options.command == "emit-reference":
        for path in emit_reference(world, options.out):
            print(path)
        return 0
    emit = {"emit-history": emit_month, "emit-truth": emit_truth}[options.command]
    for path in emit(world, options.month, options.out, [options.cpo] if options.cpo else None, options.days):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
