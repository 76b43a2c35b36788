"""``python -m ingestion``: try a feed, collect from it, import history files, convert snapshots, look into the quarantine."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

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
        help="ask a feed once and show what its file makes of the answer; writes nothing",
        description="Ask a feed once (or read a captured answer) and show what its file makes of it. Writes nothing.",
    )
    trial.add_argument("--cpo", required=True)
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

    quarantine = commands.add_parser("quarantine", help="list quarantined records, newest first")
    quarantine.add_argument("--cpo")
    quarantine.add_argument("--most", type=int, default=20)
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
        from ingestion.runs import collect_feed, failure

        totals = collect_feed(load_cpo(chosen.cpo, expand=True), seconds=chosen.seconds, report=_say)
        _say(str(totals))
        return 1 if failure(totals) else 0
    elif chosen.command == "try":
        from ingestion.trial import ask_once, describe, read_files

        config = load_cpo(chosen.cpo, expand=not chosen.file)
        for line in describe(config, read_files(config, chosen.file) if chosen.file else ask_once(config)):
            _say(line)
    elif chosen.command == "convert-snapshots":
        from ingestion.snapshots import convert

        for line in convert(chosen.config, chosen.input, chosen.output):
            _say(line)
    elif chosen.command == "quarantine":
        with connect(Role.INGEST) as connection:
            for row in connection.execute(
                """
                select quarantine_key, feed_id, source, record_ref, field, reason, last_seen_at, left(payload, 200)
                from raw.quarantine inner join raw.feed using (feed_key)
                where feed_id = coalesce(%s, feed_id)
                order by last_seen_at desc, quarantine_key desc limit %s
                """,
                (chosen.cpo, chosen.most),
            ):
                key, feed, source, record, field, reason, seen_at, payload = row
                _say(
                    f"{key}  {seen_at:%Y-%m-%d %H:%M:%S}  {feed}  {source} {record} {field or ''}: {reason}\n    {payload}"
                )
    else:
        for cpo_id in cpo_ids():
            config = load_cpo(cpo_id, expand=True)
            _say(f"{cpo_id}: {config.feed.kind}, status profile {config.feed.status_profile}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
