"""``python -m tests.benchmarks.uptime``: what the marts of a month cost, from nothing and by an increment.

Ten feeds polled once a minute, 16 changes a day and EVSE, loaded into a Postgres of its own that is removed afterwards. Beside it DuckDB computes one day from the same
month told as one observation a minute (Parquet, in the order of the polls), and its time is multiplied by the days: seconds per EVSE, local day and status, which must
be those of the marts, and then what the other marts of spans say (EVSEs laid over each other by charger and by site, hours by site, sessions, and outages under one
rule-set), without gaps, virtual EVSEs, rule-sets and groups. The exit status is 1 when seconds differ, or when a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import psycopg
import pyarrow as pa

from stack.databases import WAREHOUSE, ensure_warehouse, login_of
from stack.postgres import EmbeddedPostgres
from tests.benchmarks.month import (
    EPOCH,
    EVSES_PER_CHARGER,
    EVSES_PER_SITE,
    FEED_COUNT,
    LIVENESS_SECONDS,
    WORDS,
    ZONES,
    Keys,
    Month,
    describe,
    store,
    zone_of,
)
from tests.benchmarks.verdicts import Verdicts
from warehouse.connection import REPOSITORY, Role, connect, var_dir
from warehouse.transform import dbt_folder

INCREMENT = timedelta(minutes=15)
SPARE_MINUTES = 24 * 60
"""Minutes that are made beyond the month: as long as the run from nothing may take."""
STATUSES = ("available", "charging", "out_of_order", "blocked", "reserved", "inoperative", "unknown")
"""What `WORDS` mean."""


@dataclass(frozen=True)
class Bounds:
    """The most that each figure may be."""

    month_seconds: float = 90
    """Everything from nothing, by the wall clock, with the start of dbt."""
    duckdb_share: float = 1 / 3
    """Everything from nothing, as a share of what DuckDB needs for most of it."""
    increment_seconds: float = 30
    """By the wall clock, with the start of dbt."""


@dataclass(frozen=True)
class Run:
    """What one transformation cost. ``dbt_seconds``: wall time in which no node was at work; ``nodes``: each node's seconds; ``daily_seconds``: of those
    that `fct_evse_status_daily` needs, and its own."""

    wall_seconds: float
    dbt_seconds: float
    postgres_cpu_seconds: float
    postgres_peak_mb: float
    nodes: dict[str, float]
    daily_seconds: float


def _children(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(place.name))
    return found


def _proportional_mb(pid: int) -> float:
    """Memory of a process, with its part of what it shares with others."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0.0)


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _watched_memory(server: int) -> Iterator[list[float]]:
    """The most memory that the server and its processes held together, in a list of one."""
    most, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.25):
            most[0] = max(most[0], sum(map(_proportional_mb, [server, *_children(server)])))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def transform(server: EmbeddedPostgres, *arguments: str) -> Run:
    """Run the command as the warehouse's DAG does, in a process of its own."""
    pid = server.pid()
    assert pid is not None
    cpu, began = _cpu_seconds(pid), time.perf_counter()
    with _watched_memory(pid) as most:
        done = subprocess.run(
            [sys.executable, "-m", "warehouse", "transform", *arguments], cwd=REPOSITORY, capture_output=True, text=True
        )
    wall = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"transform failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    results = _written_by_dbt("run_results.json")["results"]
    busy = busy_seconds(
        [(datetime.fromisoformat(step["started_at"]), datetime.fromisoformat(step["completed_at"]))
         for result in results for step in result["timing"] if step["started_at"]]
    )  # fmt: skip
    nodes = {result["unique_id"]: float(result["execution_time"]) for result in results}
    needed = ancestors(_written_by_dbt("manifest.json")["parent_map"], "model.chargeatlarge.fct_evse_status_daily")
    return Run(
        wall,
        wall - busy,
        _cpu_seconds(pid) - cpu,
        most[0],
        nodes,
        sum(seconds for node, seconds in nodes.items() if node in needed),
    )


def _written_by_dbt(name: str) -> Any:
    return json.loads((dbt_folder() / "target" / name).read_text(encoding="utf-8"))


def ancestors(parents: dict[str, list[str]], node: str) -> set[str]:
    """A node and all that it is made from."""
    found, open_nodes = set(), [node]
    while open_nodes:
        nearest = open_nodes.pop()
        if nearest not in found:
            found.add(nearest)
            open_nodes += parents.get(nearest, [])
    return found


def busy_seconds(intervals: list[tuple[datetime, datetime]]) -> float:
    """How long at least one interval lasted."""
    busy, reached = 0.0, datetime.min.replace(tzinfo=UTC)
    for begin, end in sorted(intervals):
        busy += max((end - max(begin, reached)).total_seconds(), 0.0)
        reached = max(reached, end)
    return busy


def print_run(name: str, run: Run) -> None:
    """Say what a transformation cost, node by node."""
    models = {node.split(".")[-1]: seconds for node, seconds in run.nodes.items() if node.startswith("model.")}
    tests = [seconds for node, seconds in run.nodes.items() if node.startswith("test.")]
    print(
        f"{name}: {run.wall_seconds:.1f} s, of which {run.dbt_seconds:.1f} s dbt alone; Postgres {run.postgres_cpu_seconds:.1f} CPU-s,"
        f" at most {run.postgres_peak_mb:.0f} MB"
    )
    shown = {model: seconds for model, seconds in models.items() if seconds >= 0.2}
    for model, seconds in sorted(shown.items(), key=lambda item: -item[1]):
        print(f"  {model:40} {seconds:7.2f} s")
    print(f"  {f'{len(models) - len(shown)} other models':40} {sum(models.values()) - sum(shown.values()):7.2f} s")
    print(f"  {f'{len(tests)} data tests':40} {sum(tests):7.2f} s")


def print_rows(server: EmbeddedPostgres) -> None:
    """Rows of every table that dbt filled."""
    with psycopg.connect(server.url(WAREHOUSE)) as connection:
        for schema, table in connection.execute(
            "select schemaname, tablename from pg_tables where schemaname in ('intermediate', 'marts') order by 1, 2"
        ).fetchall():
            row = connection.execute(f'select count(*) from "{schema}"."{table}"').fetchone()
            assert row is not None
            print(f"  {schema}.{table:40} {row[0]:10,} rows")


def _local_day(zone: str, day: date) -> tuple[datetime, datetime]:
    """Begin and end of a local day, in UTC without saying so."""
    begin, end = (datetime(at.year, at.month, at.day, tzinfo=ZoneInfo(zone)) for at in (day, day + timedelta(days=1)))
    return begin.astimezone(UTC).replace(tzinfo=None), end.astimezone(UTC).replace(tzinfo=None)


def tell_by_the_minute(database: duckdb.DuckDBPyConnection, month: Month, keys: Keys, day: date, file: Path) -> int:
    """Write to a file what every poll said that matters to a local day; return how many EVSEs it told of, all in all."""
    evses = pa.table(  # noqa: F841 (read by its name, like those below)
        {
            "evse_key": np.concatenate(keys.evses),
            "feed": np.repeat(np.arange(FEED_COUNT), month.evses_per_feed),
            "zone": [zone_of(place) for _ in range(FEED_COUNT) for place in range(month.evses_per_feed)],
            **{
                name: np.concatenate(
                    [
                        feed * month.evses_per_feed + np.arange(month.evses_per_feed) // size
                        for feed in range(FEED_COUNT)
                    ]
                )
                for name, size in {"charger": EVSES_PER_CHARGER, "site": EVSES_PER_SITE}.items()
            },
        }
    )
    changes = pa.table(  # noqa: F841
        {
            "evse_key": np.concatenate([keys.evses[told.feed][told.place] for told in month.told]),
            "minute": np.concatenate([told.minute for told in month.told]),
            "word": np.concatenate([np.array(WORDS)[told.word] for told in month.told]).tolist(),
        }
    )
    minutes = [np.flatnonzero(told.answered) for told in month.told]
    since_epoch = (EPOCH - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    polls = pa.table(  # noqa: F841
        {
            "feed": np.repeat(np.arange(FEED_COUNT), [len(answered) for answered in minutes]),
            "minute": np.concatenate(minutes),
            "at": np.concatenate(
                [month.polled_at(feed, answered) + since_epoch for feed, answered in enumerate(minutes)]
            ),
        }
    )
    database.execute("create table evse as from evses")
    database.execute("create table meaning (word varchar, status varchar, bit integer)")
    database.executemany(
        "insert into meaning values (?, ?, ?)",
        [(word, status, 1 << place) for place, (word, status) in enumerate(zip(WORDS, STATUSES, strict=True))],
    )
    database.execute("create table calendar (zone varchar, local_date date, day_from timestamp, day_until timestamp)")
    database.executemany(
        "insert into calendar values (?, ?, ?, ?)", [(zone, day, *_local_day(zone, day)) for zone in ZONES]
    )
    database.execute(
        f"""
        copy (
        select evse.evse_key, date_trunc('second', make_timestamp(polls.at)) as observed_at, changes.word
        from evse
        inner join calendar using (zone)
        inner join polls
            on polls.feed = evse.feed
                and make_timestamp(polls.at) >= calendar.day_from - interval {LIVENESS_SECONDS} second
                and make_timestamp(polls.at) < calendar.day_until
        asof join changes on changes.evse_key = evse.evse_key and changes.minute <= polls.minute
        order by 2
        ) to '{file}'
        """
    )
    database.execute(f"create view observation as from '{file}'")
    row = database.execute("select count(*) from observation").fetchone()
    assert row is not None
    return int(row[0])


SECONDS_FROM_OBSERVATIONS = f"""
with followed as (
    select
        evse_key, word, observed_at,
        lead(observed_at) over (partition by evse_key order by observed_at) as next_at
    from observation
),

held as (
    select
        evse_key, word, observed_at as held_from,
        least(coalesce(next_at, 'infinity'), observed_at + interval {LIVENESS_SECONDS} second) as held_until
    from followed
)

select
    held.evse_key, calendar.local_date, meaning.status,
    sum(date_diff('second', greatest(held_from, day_from), least(held_until, day_until)))::bigint as seconds
from held
inner join evse using (evse_key)
inner join calendar on calendar.zone = evse.zone and held_from < day_until and held_until > day_from
inner join meaning using (word)
group by all
"""


HELD = f"""
create temporary table held as
select
    evse.evse_key, evse.charger, evse.site, meaning.status, meaning.bit,
    observed_at as held_from,
    least(
        coalesce(lead(observed_at) over (partition by observation.evse_key order by observed_at), 'infinity'),
        observed_at + interval {LIVENESS_SECONDS} second
    ) as held_until
from observation
inner join evse on evse.evse_key = observation.evse_key
inner join meaning on meaning.word = observation.word
"""
OVERLAPS = """
with laid_over as (
    select {level}, held_from, bit_or(bit) as mix, min(held_until) as held_until from held group by {level}, held_from
)

select {level}, mix, sum(date_diff('second', held_from, held_until)) from laid_over group by {level}, mix
"""
RUNS = """
with marked as (
    select *, lag(status) over in_time is distinct from status or lag(held_until) over in_time < held_from as is_first
    from held
    where status in ({statuses})
    window in_time as (partition by evse_key order by held_from)
),

numbered as (
    select *, count(*) filter (where is_first) over (
        partition by evse_key order by held_from rows between unbounded preceding and current row
    ) as run
    from marked
)

select evse_key, run, min(held_from), max(held_until) from numbered group by evse_key, run
"""
OTHER_MARTS_FROM_OBSERVATIONS = (
    OVERLAPS.format(level="charger"),
    OVERLAPS.format(level="site"),
    "select site, date_trunc('hour', held_from), status, sum(date_diff('second', held_from, held_until)) from held group by all",
    RUNS.format(statuses="'charging'"),
    RUNS.format(statuses="'out_of_order', 'blocked', 'inoperative'"),
)


def seconds_of_the_marts(day: date) -> set[tuple[int, date, str, int]]:
    """What the daily fact says of a day as far as there was contact, by what was told."""
    with connect(Role.ANALYST) as connection:
        return set(
            connection.execute(
                """
                select
                    evse_key, local_date, case status when 'blocked_by_sibling' then 'out_of_order' else status end as told,
                    sum(seconds)
                from marts.fct_evse_status_daily
                where local_date = %s and status <> 'missing'
                group by 1, 2, 3
                """,
                (day,),
            ).fetchall()
        )


def judge(whole: Run, increment: Run, duckdb_seconds: float, bounds: Bounds) -> bool:
    """Print each figure beside its bound; whether all of them held."""
    verdicts = Verdicts()
    for name, seconds, bound in (
        ("month from nothing", whole.wall_seconds, bounds.month_seconds),
        ("the same beside DuckDB", whole.wall_seconds, duckdb_seconds * bounds.duckdb_share),
        ("increment", increment.wall_seconds, bounds.increment_seconds),
    ):
        print(f"{name}: {seconds:.1f} s; {verdicts.at_most(seconds, bound, f'{bound:.1f}')}")
    return verdicts.all_hold


def measure(server: EmbeddedPostgres, folder: Path, chosen: argparse.Namespace, bounds: Bounds) -> bool:
    """Load, transform, compare; whether every bound held."""
    cut_off = datetime.now(UTC).replace(second=0, microsecond=0) - INCREMENT
    month = Month(chosen.evses // FEED_COUNT, cut_off - timedelta(days=chosen.days), chosen.days * 1440 + SPARE_MINUTES)
    began = time.perf_counter()
    with connect(Role.INGEST) as connection:
        keys = describe(connection, month)
        change_count = store(connection, month, keys, range(chosen.days * 1440))
    with psycopg.connect(server.url(WAREHOUSE), autocommit=True) as connection:
        # Described now, they would not be known at the cut-off. And vacuum is what autovacuum does in a month.
        connection.execute("update raw.asset_version set recorded_at = valid_from")
        connection.execute("update raw.feed set registered_at = %s", (month.start,))
        connection.execute("vacuum analyze")
    print(
        f"{month.evses_per_feed * FEED_COUNT} EVSEs in {FEED_COUNT} feeds, {chosen.days} days: {change_count:,} changes,"
        f" {FEED_COUNT * chosen.days * 1440:,} contacts, loaded in {time.perf_counter() - began:.0f} s"
    )
    whole = transform(server, "--full-refresh", "--as-of", cut_off.isoformat())
    print_run("from nothing", whole)
    print_rows(server)
    passed = int((datetime.now(UTC) - month.start).total_seconds() // 60) - 1
    with connect(Role.INGEST) as connection:
        new_count = store(connection, month, keys, range(chosen.days * 1440, passed))
    increment = transform(server)
    print_run(f"an increment of {passed - chosen.days * 1440} minutes, {new_count:,} changes", increment)
    day = (cut_off - timedelta(days=1)).date()
    with duckdb.connect() as database:
        database.execute("set threads = 2")
        observation_count = tell_by_the_minute(database, month, keys, day, folder / "observations.parquet")
        began = time.perf_counter()
        found: list[tuple[Any, ...]] = database.execute(SECONDS_FROM_OBSERVATIONS).fetchall()
        day_seconds = time.perf_counter() - began
        database.execute(HELD)
        for question in OTHER_MARTS_FROM_OBSERVATIONS:
            database.execute(f"create or replace temporary table answer as {question}")
        all_seconds = time.perf_counter() - began
    print(
        f"DuckDB {duckdb.__version__}, 2 threads, one day of {observation_count:,} observations: {day_seconds:.2f} s to seconds by status,"
        f" times {chosen.days} days {day_seconds * chosen.days:.1f} s (the models down to these took {whole.daily_seconds:.1f} s);"
        f" with the other marts {all_seconds:.2f} s, times {chosen.days} days {all_seconds * chosen.days:.1f} s"
    )
    is_equal = set(found) == seconds_of_the_marts(day)
    print(f"its {len(found):,} rows are {'those' if is_equal else 'NOT THOSE'} of the marts, to the second")
    return judge(whole, increment, all_seconds * chosen.days, bounds) and is_equal


def main(arguments: list[str] | None = None, bounds: Bounds | None = None) -> int:
    """Run all on a server of its own; the exit status says whether every bound held."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.uptime", description=__doc__)
    parser.add_argument("--evses", type=int, default=10_000, help="in all feeds together (default: %(default)s)")
    parser.add_argument("--days", type=int, default=31, help="at least 3 (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    if chosen.days < 3 or chosen.evses < FEED_COUNT:
        parser.error(f"at least 3 days and {FEED_COUNT} EVSEs")
    parent = var_dir() / "benchmark"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            ensure_warehouse(server)
            os.environ["DBT_DIR"] = str(Path(folder) / "dbt")
            # By role, before every other setting: it must not meet another warehouse.
            os.environ.update({f"WAREHOUSE_{role.name}_URL": server.url(WAREHOUSE, login_of(role)) for role in Role})
            return 0 if measure(server, Path(folder), chosen, bounds or Bounds()) else 1
        finally:
            server.remove()


if __name__ == "__main__":
    sys.exit(main())
