"""``python -m tests.benchmarks.ingest``: what collecting costs, from bytes to committed rows.

Prints CPU-seconds of the collector and of its database backend, and resident memory, beside the bound of each. The CPO is another process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from ingestion.config import CpoConfig
from ingestion.ocpi.pull import OcpiPull
from ingestion.writer import Writer
from stack.databases import ensure_warehouse
from stack.postgres import EmbeddedPostgres
from tests.benchmarks.verdicts import Verdicts
from tests.ingestion.ocpi.scripted_server import OcpiScript, ScriptedServer, location, pull_config
from warehouse.connection import Role, connect, var_dir

CONTEXT = multiprocessing.get_context("spawn")
ONE_PAGE = 10**9


@dataclass(frozen=True)
class Bounds:
    """The most that each figure may be. ``core_share``: of one core, by all small feeds together."""

    unchanged_cpu_seconds: float = 0.05
    changed_cpu_seconds: float = 1.5
    resident_mb: float = 300
    core_share: float = 0.10


def wordy_list(evse_count: int) -> list[dict[str, Any]]:
    """Locations of four EVSEs with two connectors each, as wordy as real ones."""
    made = []
    for number in range(evse_count // 4):
        item = location(f"LOC{number:05}", evse_count=4, connector_count=2)
        item["directions"] = [{"language": "en", "text": "Behind the petrol station, left of the gate. " * 4}]
        item["opening_times"] = {"twentyfourseven": True}
        for evse in item["evses"]:
            evse["capabilities"] = ["RESERVABLE", "RFID_READER", "REMOTE_START_STOP_CAPABLE"]
        made.append(item)
    return made


def serve(pipe: Connection, evse_counts: list[int], page_cap: int) -> None:
    """Be one CPO per count; change statuses when told to: a share of them, or none."""
    scripts = [OcpiScript(wordy_list(count), page_cap=page_cap) for count in evse_counts]
    with _servers(scripts) as urls:
        pipe.send((urls, len(json.dumps(scripts[0].items))))
        turn = 0
        while (share := pipe.recv()) is not None:
            turn += 1
            for script in scripts:
                evses = [evse for item in script.items for evse in item["evses"]]
                for evse in evses[:: round(1 / share)] if share else ():
                    evse["status"] = ("CHARGING", "BLOCKED", "RESERVED", "OUTOFORDER")[turn % 4]
            pipe.send("changed")


@contextmanager
def _servers(scripts: list[OcpiScript]) -> Iterator[list[str]]:
    servers = [ScriptedServer() for _ in scripts]
    try:
        for server, script in zip(servers, scripts, strict=True):
            server.__enter__()
            script.mount(server)
        yield [server.url for server in servers]
    finally:
        for server in servers:
            server.__exit__(None, None, None)


@contextmanager
def cpo(evse_counts: list[int], page_cap: int = ONE_PAGE) -> Iterator[tuple[list[str], int, Callable[[float], None]]]:
    """A process that serves; gives the URLs, the bytes of the first list, and a function that changes a share of the statuses."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=serve, args=(theirs, evse_counts, page_cap), daemon=True)
    process.start()
    urls, size = ours.recv()

    def change(share: float) -> None:
        ours.send(share)
        ours.recv()

    yield urls, size, change
    ours.send(None)
    process.join(10)


class Meter:
    """CPU of this process and of database backends, between two moments."""

    def __init__(self, *connections: psycopg.Connection) -> None:
        self._backends = [connection.info.backend_pid for connection in connections]
        self._start = self._now()

    def _now(self) -> tuple[float, float, float]:
        ticks = os.sysconf("SC_CLK_TCK")
        backends = 0.0
        for pid in self._backends:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            backends += (int(fields[11]) + int(fields[12])) / ticks
        return time.process_time(), backends, time.perf_counter()

    def read(self) -> tuple[float, float, float]:
        """CPU-seconds of this process, CPU-seconds of the backends, wall seconds, since it was made."""
        return tuple(now - start for now, start in zip(self._now(), self._start, strict=True))  # type: ignore[return-value]


def resident_mb() -> float:
    """The most memory that this process has held."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def named(config: CpoConfig, cpo_id: str) -> CpoConfig:
    """The same feed under another id."""
    return config.model_copy(update={"cpo_id": cpo_id})


def poll_once(feed: OcpiPull, writer: Writer) -> str:
    """Ask and store as the collector does; say what was written."""
    asked_at = datetime.now(UTC)
    poll = feed.poll()
    written = writer.write_poll(poll, asked_at, datetime.now(UTC))
    assert written is not None
    return f"{'unchanged' if poll.is_unchanged else 'changed'}: {written}"


def one_large_feed(evse_count: int, page_cap: int, bounds: Bounds) -> bool:
    """One poll of a large feed, changed and unchanged; whether every bound held."""
    verdicts = Verdicts()
    unchanged, changed = bounds.unchanged_cpu_seconds, bounds.changed_cpu_seconds
    with cpo([evse_count], page_cap) as (urls, size, change), connect(Role.INGEST) as connection:
        pages = "one page" if page_cap == ONE_PAGE else f"pages of {page_cap} Locations"
        print(f"one feed of {evse_count} EVSEs, {size / 1e6:.1f} MB, {pages}")
        config = pull_config(urls[0])
        feed, writer = OcpiPull(config, config.feed.versions_url, "token"), Writer(connection, config)
        for name, share, bound in (
            ("first", 0.0, None), ("unchanged", 0.0, unchanged), ("1 % changed", 0.01, changed), ("unchanged", 0.0, unchanged),
            ("all changed", 1.0, changed), ("unchanged", 0.0, unchanged),
        ):  # fmt: skip
            change(share)
            meter = Meter(connection)
            said = poll_once(feed, writer)
            ours, backend, wall = meter.read()
            verdict = "" if bound is None else f"{verdicts.at_most(ours, bound, f'{bound:g}')}; "
            print(f"  {name:12} {ours:6.3f} CPU-s, database {backend:5.2f}, wall {wall:5.2f} s; {verdict}{said}")
        feed.close()
    memory = resident_mb()
    verdict = verdicts.at_most(memory, bounds.resident_mb, f"{bounds.resident_mb:g}")
    print(f"  resident memory at most {memory:.0f} MB: {verdict}")
    return verdicts.all_hold


def many_small_feeds(feed_count: int, evse_count: int, minutes: int, bounds: Bounds) -> bool:
    """Feeds polled each minute in one process; the minutes are run one after the other without waiting. Whether the bound held."""
    with cpo([evse_count] * feed_count) as (urls, _, change):
        configs = [named(pull_config(url), f"feed_{number}") for number, url in enumerate(urls)]
        connections = [connect(Role.INGEST) for _ in configs]
        feeds = [OcpiPull(config, config.feed.versions_url, "token") for config in configs]
        writers = [Writer(connection, config) for connection, config in zip(connections, configs, strict=True)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(poll_once, feeds, writers))
            meter = Meter(*connections)
            for _ in range(minutes):
                # An EVSE changes 16 times a day: about one in ninety each minute.
                change(1 / 90)
                list(pool.map(poll_once, feeds, writers))
            ours, backend, _ = meter.read()
        for feed, connection in zip(feeds, connections, strict=True):
            feed.close()
            connection.close()
    verdicts = Verdicts()
    share = ours / (minutes * 60)
    verdict = verdicts.at_most(share, bounds.core_share, f"{bounds.core_share * 100:g} %")
    print(
        f"{feed_count} feeds of {evse_count} EVSEs, all changed, each minute, in one process: {share:.1%} of one core"
        f" (database {backend / (minutes * 60):.1%}): {verdict}; resident memory at most {resident_mb():.0f} MB"
    )
    return verdicts.all_hold


def _child(measure: Callable[..., bool], arguments: tuple[Any, ...]) -> None:
    sys.exit(0 if measure(*arguments) else 1)


def main(arguments: list[str] | None = None, bounds: Bounds | None = None) -> int:
    """Run all, each in a process of its own; the exit status says whether every bound held."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ingest", description=__doc__)
    parser.add_argument("--evses", type=int, default=10_000, help="of the large feed (default: %(default)s)")
    parser.add_argument("--feeds", type=int, default=50, help="small ones (default: %(default)s)")
    parser.add_argument("--minutes", type=int, default=5, help="of the small feeds (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    bounds = bounds or Bounds()
    parent = var_dir() / "benchmark"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            ensure_warehouse(server)
            os.environ["WAREHOUSE_INGEST_URL"] = server.url("warehouse", "ingest")
            statuses = []
            runs: tuple[tuple[Callable[..., bool], tuple[Any, ...]], ...] = (
                (one_large_feed, (chosen.evses, ONE_PAGE, bounds)),
                (one_large_feed, (chosen.evses, 100, bounds)),
                (many_small_feeds, (chosen.feeds, 200, chosen.minutes, bounds)),
            )
            for run in runs:
                process = CONTEXT.Process(target=_child, args=run)
                process.start()
                process.join()
                statuses.append(process.exitcode)
        finally:
            server.remove()
    return 0 if set(statuses) == {0} else 1


if __name__ == "__main__":
    sys.exit(main())
