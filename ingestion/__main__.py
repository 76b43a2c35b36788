"""``python -m ingestion``: try a feed, collect from it, receive what is pushed, import files, look into the quarantine, ask how feeds stand."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from ingestion.config import cpo_ids, load_cpo
from ingestion.handover import import_waiting
from ingestion.history import import_history
from ingestion.model import FeedError
from ingestion.tables import HistoryFileError
from warehouse.connection import Role, WarehouseNotFoundError, connect, var_dir
from warehouse.strict_yaml import ConfigError


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingestion", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    history = commands.add_parser(
        "import-history",
        help="import history files (CSV or Parquet, plain, gzip or xz)",
        description="Import a CPO's history files in one transaction. The same file twice changes nothing."
        " Columns: see docs/history-files.md.",
    )
    history.add_argument("--cpo", required=True, help="id of the CPO: the name of its file in config/cpos/")
    history.add_argument("--assets", type=Path, help="sites, chargers, EVSEs and connectors")
    history.add_argument("--changes", type=Path, help="evse_id, status, observed_at")
    history.add_argument("--contact", type=Path, help="contact_at, is_complete or contact_from, contact_until")
    history.add_argument(
        "--status-profile", help="profile of the status words (default: the feed's, or `history` for a polled feed)"
    )

    waiting = commands.add_parser("import-waiting", help="import the hand-over folders below var/inbox/<cpo>/")
    waiting.add_argument("--cpo", required=True)
    waiting.add_argument("--inbox", type=Path, help="default: var/inbox")

    collect = commands.add_parser(
        "collect", help="poll a feed, listen to it or look for its files for one collection window"
    )
    collect.add_argument("--cpo", required=True)
    collect.add_argument("--seconds", type=float, default=60.0, help="length of the window (%(default)s)")

    trial = commands.add_parser(
        "try",
        help="ask a feed once, listen to it, or read its newest file, and show what its settings make of it; stores nothing",
        description="Ask a feed once, listen to it for some seconds, or read its newest file (or read a captured answer), and show what its settings"
        " make of it. Stores nothing and takes no file away.",
    )
    trial.add_argument("--cpo", required=True)
    trial.add_argument("--seconds", type=float, default=10.0, help="how long a stream is listened to (%(default)s)")
    trial.add_argument(
        "--file",
        type=Path,
        action="append",
        help="a captured answer instead; twice (descriptions, statuses) for two lists",
    )

    convert = commands.add_parser("convert-snapshots", help="turn a file of snapshots into history files")
    convert.add_argument("--config", type=Path, required=True, help="YAML that describes the file")
    convert.add_argument("--input", type=Path, required=True)
    convert.add_argument("--output", type=Path, required=True, help="folder for assets, changes and contact")

    quarantine = commands.add_parser(
        "quarantine",
        help="list, explain, replay or dismiss records that could not be taken",
        description="Records that could not be taken, the one seen last first. After a mapping or a setting was mended, `replay` reads them again"
        " and stores what can be taken now, for the time in which they stood there.",
    )
    quarantine.add_argument(
        "action", nargs="?", choices=("list", "explain", "replay", "dismiss"), default="list", help="default: list"
    )
    quarantine.add_argument(
        "keys", nargs="*", type=int, metavar="KEY", help="numbers of records (first column of the list)"
    )
    quarantine.add_argument("--cpo", help="of one CPO only")
    quarantine.add_argument("--most", type=int, default=20, help="list: how many (%(default)s)")
    quarantine.add_argument("--all", action="store_true", help="list: also those that were replayed or dismissed")
    serve = commands.add_parser("serve", help="receive what CPOs push, until it is stopped")
    serve.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    serve.add_argument("--port", type=int, default=8070, help="(%(default)s)")

    tokens = commands.add_parser("tokens", help="tokens that CPOs present to the receiver")
    acts = tokens.add_subparsers(dest="act", required=True)
    issue = acts.add_parser("issue", help="make a token and print it: it cannot be read again")
    issue.add_argument("--cpo", required=True)
    issue.add_argument(
        "--purpose",
        choices=["register", "send"],
        default="send",
        help="register: good for an OCPI registration only, and ended by it (%(default)s)",
    )
    tokens_list = acts.add_parser("list", help="list tokens, newest first, without what they are")
    tokens_list.add_argument("--cpo")
    revoke = acts.add_parser("revoke", help="end every token of a CPO now")
    revoke.add_argument("--cpo", required=True)

    register = commands.add_parser("register", help="register with a CPO's OCPI platform, so that it pushes to us")
    register.add_argument("--cpo", required=True)

    commands.add_parser("health", help="say how each feed stands; exit 1 when one is silent")
    commands.add_parser("check-config", help="read every CPO's file and say what is wrong")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        return _run(chosen)
    except (ConfigError, FeedError, HistoryFileError, WarehouseNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except psycopg.OperationalError as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.stderr.write(f"the warehouse does not answer: {said} (`make db` starts the embedded one)\n")
        return 2


def _tokens(chosen: argparse.Namespace, now: datetime) -> None:
    """Issue, list or revoke tokens of senders."""
    from ingestion import access

    if chosen.cpo is not None:
        kind = load_cpo(chosen.cpo).feed.kind
        if chosen.act == "issue" and kind not in ("ocpi_push", "rest_push"):
            raise ConfigError(f"{chosen.cpo}: a feed of kind {kind} sends nothing to the receiver")
    with connect(Role.INGEST) as connection:
        if chosen.act == "issue":
            _say(access.issue(connection, chosen.cpo, chosen.purpose))
        elif chosen.act == "revoke":
            _say(f"{chosen.cpo}: {access.revoke(connection, chosen.cpo, now)} tokens ended")
        else:
            for token in access.listed(connection, chosen.cpo):
                until = f"until {token.valid_until:%Y-%m-%d %H:%M:%S}" if token.valid_until else "for good"
                used = f"used {token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
                _say(
                    f"{token.mark}  {token.feed_id}  {token.purpose}  "
                    f"issued {token.created_at:%Y-%m-%d %H:%M}, {until}, {used}"
                )


def _register(cpo_id: str) -> None:
    """Register with a CPO's platform under ``RECEIVER_URL``."""
    from ingestion.receiver.handshake import register

    base = os.environ.get("RECEIVER_URL")
    if not base:
        raise ConfigError("register: RECEIVER_URL must be the address at which the CPO reaches the receiver")
    with connect(Role.INGEST) as connection:
        _say(register(connection, load_cpo(cpo_id, expand=True), base.rstrip("/"), lambda: datetime.now(UTC)))


def _run(chosen: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    if chosen.command == "import-history":
        config = load_cpo(chosen.cpo)
        if not (chosen.assets or chosen.changes or chosen.contact):
            raise ConfigError("import-history: name at least one of --assets, --changes, --contact")
        with connect(Role.INGEST) as connection:
            imported = import_history(
                connection,
                config,
                assets=chosen.assets,
                changes=chosen.changes,
                contact=chosen.contact,
                now=now,
                report=_say,
                status_profile=chosen.status_profile,
            )
        _say(f"{config.cpo_id}: {imported.written}")
        if imported.written.quarantined:
            _say(f"see why: python -m ingestion quarantine --cpo {config.cpo_id}")
    elif chosen.command == "import-waiting":
        config = load_cpo(chosen.cpo)
        with connect(Role.INGEST) as connection:
            import_waiting(connection, config, chosen.inbox or var_dir() / "inbox", now, _say)
    elif chosen.command == "collect":
        from ingestion.runs import collect_feed

        totals = collect_feed(load_cpo(chosen.cpo, expand=True), seconds=chosen.seconds, report=_say)
        _say(str(totals))
        return 1 if totals.failure() else 0
    elif chosen.command == "try":
        from ingestion import trial

        config = load_cpo(chosen.cpo, expand=not chosen.file)
        for line in (
            trial.describe(config, trial.read_files(config, chosen.file))
            if chosen.file
            else trial.findings(config, chosen.seconds)
        ):
            _say(line)
    elif chosen.command == "convert-snapshots":
        from ingestion.snapshots import convert

        for line in convert(chosen.config, chosen.input, chosen.output):
            _say(line)
    elif chosen.command == "serve":
        from ingestion.receiver.app import serve

        serve(chosen.host, chosen.port)
    elif chosen.command == "tokens":
        _tokens(chosen, now)
    elif chosen.command == "register":
        _register(chosen.cpo)
    elif chosen.command == "quarantine":
        _quarantine(chosen, now)
    elif chosen.command == "health":
        from ingestion.health import describe, read_health, silence

        is_any_silent = False
        with connect(Role.INGEST) as connection:
            for config in map(load_cpo, cpo_ids()):
                health = read_health(connection, config, now)
                _say(describe(health, config, now))
                is_any_silent |= silence(health, config, now) is not None
        return int(is_any_silent)
    else:
        for cpo_id in cpo_ids():
            config = load_cpo(cpo_id, expand=True)
            _say(f"{cpo_id}: {config.feed.kind}, status profile {config.feed.status_profile}")
    return 0


def _quarantine(chosen: argparse.Namespace, now: datetime) -> None:
    from ingestion import quarantine
    from ingestion.feeds import retranslate

    if chosen.action in ("explain", "dismiss") and not chosen.keys:
        raise ConfigError(f"quarantine {chosen.action}: name the records by their numbers (see `quarantine list`)")
    if chosen.action == "replay" and not chosen.keys and not chosen.cpo:
        raise ConfigError("quarantine replay: name records by their numbers, or a CPO with --cpo")
    with connect(Role.INGEST) as connection:
        records = quarantine.find(
            connection,
            cpo_id=chosen.cpo,
            keys=chosen.keys,
            is_unresolved=chosen.action == "replay" or (chosen.action == "list" and not chosen.all),
            most=chosen.most if chosen.action == "list" else None,
        )
        if missing := set(chosen.keys) - {record.quarantine_key for record in records}:
            _say(f"not there, or done already: {', '.join(map(str, sorted(missing)))}")
        if chosen.action == "list":
            for record in records:
                _say(record.line)
                _say(f"    {record.payload[:200]}")
        elif chosen.action == "explain":
            for record in records:
                for line in quarantine.explain(connection, record, load_cpo(record.feed_id), retranslate):
                    _say(line)
        elif chosen.action == "dismiss":
            done = quarantine.resolve(connection, chosen.keys, "dismissed", now)
            _say(f"{done} dismissed")
        else:
            for cpo_id in sorted({record.feed_id for record in records}):
                of_cpo = [record for record in records if record.feed_id == cpo_id]
                written = quarantine.replay(connection, load_cpo(cpo_id), of_cpo, retranslate, now, _say)
                _say(f"{cpo_id}: {written}")


if __name__ == "__main__":
    sys.exit(main())
