"""Take a month through the whole path, by Airflow's own scheduler and executor, and print what came out.

What differs between the simulated and the real demo is a ``Plan``; the steps are the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import requests

from ingestion.config import cpo_ids
from stack import control
from stack.airflow_api import FINISHED, AirflowApi, AirflowError, DagRun, TaskRun
from stack.databases import warehouse_is_elsewhere
from stack.machine import inherited_environment
from stack.processes import TELEMETRY_OFF
from stack.progress import Progress
from stack.supervisor import Supervisor, tail
from warehouse.connection import REPOSITORY, Role, connect, var_dir

WINDOW_SECONDS = 20
PARSE_SECONDS = 120.0
INGEST_SECONDS = 300.0
TRANSFORM_SECONDS = 300.0
EXTRACT_SECONDS = 180.0
POLL_SECONDS = 1.0
NEWS_SECONDS = 15.0
TRANSFORM = "transform_warehouse"

# One row per CPO: charger rows already pool EVSE-seconds. The bounds count every unknown or missing second as down or as up.
UPTIME_BY_CPO = """
with pooled as (
    select
        cpo.cpo_id,
        sum(fact.evse_count) as evse_count,
        sum(fact.in_service_seconds) as in_service_seconds,
        sum(fact.measured_seconds) as measured_seconds,
        sum(fact.up_seconds) as up_seconds,
        sum(fact.unknown_seconds + fact.missing_seconds) as open_seconds
    from marts.fct_charger_uptime_monthly as fact
    inner join marts.dim_cpo as cpo on cpo.cpo_key = fact.cpo_key
    where fact.rule_set = 'evc_2025' and fact.local_month = %(month)s
    group by cpo.cpo_id
)

select
    cpo_id,
    100.0 * up_seconds / nullif(measured_seconds, 0) as uptime_pct,
    100.0 * up_seconds / nullif(measured_seconds + open_seconds, 0) as lower_pct,
    100.0 * (up_seconds + open_seconds) / nullif(measured_seconds + open_seconds, 0) as upper_pct,
    100.0 * measured_seconds / nullif(in_service_seconds, 0) as coverage_pct,
    evse_count
from pooled
order by cpo_id
"""


class DemoError(RuntimeError):
    """A step failed; the message says which, and where to look."""


@dataclass(frozen=True)
class Plan:
    """What a demo takes through the path."""

    config_dir: Path
    """Folder of the CPO files."""
    months: tuple[str, ...]
    """Months to extract, YYYY-MM."""
    recipients: tuple[str, ...]
    prepare: Callable[[Progress], None]
    """Puts files where ingestion finds them; called when the warehouse is there and before Airflow starts."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Optional variables of the processes (``stack.processes.OPTIONAL``)."""
    simulator_arguments: tuple[str, ...] = ()
    """What the simulator serves besides its own CPOs, such as ``--replay NAME=FILE``."""
    more_report_months: tuple[str, ...] = ()
    """Months to print without an extract."""
    more_tokens: tuple[str, ...] = ()
    """Secrets that such feeds ask for; they are generated."""

    @property
    def ingest_dags(self) -> tuple[str, ...]:
        """One DAG per CPO file."""
        return tuple(f"ingest_{cpo_id}" for cpo_id in cpo_ids(self.config_dir))

    @property
    def extract_dags(self) -> tuple[str, ...]:
        """One DAG per recipient."""
        return tuple(f"extract_{recipient}" for recipient in self.recipients)


def last_full_month(now: datetime, zone: str = "Australia/Sydney") -> str:
    """The month before the one it is now in ``zone``, YYYY-MM."""
    first = now.astimezone(ZoneInfo(zone)).date().replace(day=1)
    return f"{first - timedelta(days=1):%Y-%m}"


def simulated_plan(now: datetime) -> Plan:
    """The simulated CPOs, and the month just ended."""
    month = last_full_month(now)

    def prepare(progress: Progress) -> None:
        inbox = var_dir() / "inbox"
        run_command(["simulator", "emit-history", "--month", month, "--out", str(inbox)], "simulator-history")
        progress(f"the simulated CPOs handed over their history of {month} in {inbox}")
        files = var_dir() / "object_store" / "reference"
        run_command(["simulator", "emit-reference", "--out", str(files)], "simulator-reference")
        run_command(["reference", "load", "--url", str(files), "--by", "demo"], "reference")
        progress(f"reference files of their places are loaded from {files}")

    return Plan(
        config_dir=REPOSITORY / "config" / "cpos",
        months=(month,),
        recipients=("nsw_dcceew", "wa_government"),
        prepare=prepare,
        options={"COLLECTION_WINDOW_SECONDS": str(WINDOW_SECONDS)},
    )


def shared_data() -> Path:
    """Folder of the real data."""
    return Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data").resolve()


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder's files on a free port of 127.0.0.1; yields the URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def real_plan(now: datetime, feeds_url: str) -> Plan:
    """Ten days of real status history from Ireland, and captured answers of real interfaces that are polled now: a page of OCPI locations, and JSON of
    three more (served at ``feeds_url``).

    All are looked for in ``SHARED_DATA``, by default ``../shared/data``. Raises ``DemoError`` when they are not there.
    """
    folder = REPOSITORY / "config" / "demo_real"
    shared = shared_data()
    history = shared / "status_history" / "ireland_2018-11-01_to_10.tsv.xz"
    page = shared / "real_feeds" / "chargecloud_ludwigsburg_page1.json"
    for path in (history, page):
        if not path.exists():
            raise DemoError(
                f"{path} is not there: set SHARED_DATA to the folder that holds status_history and real_feeds"
            )

    def prepare(progress: Progress) -> None:
        output = var_dir() / "inbox" / "esb_ecars" / "2018-11"
        run_command(
            [
                "ingestion", "convert-snapshots",
                "--config", str(folder / "esb_ecars_snapshots.yml"),
                "--input", str(history),
                "--output", str(output),
            ],
            "convert-snapshots",
        )  # fmt: skip
        for line in (control.log_dir() / "convert-snapshots.log").read_text(encoding="utf-8").splitlines():
            progress(f"  {line}")
        progress(f"the Irish snapshots are history files in {output}")

    return Plan(
        config_dir=folder / "cpos",
        months=("2018-11",),
        more_report_months=(f"{now:%Y-%m}",),
        recipients=("ireland_demo",),
        prepare=prepare,
        options={
            "COLLECTION_WINDOW_SECONDS": str(WINDOW_SECONDS),
            "RECIPIENTS_CONFIG": str(folder / "recipients.yml"),
            "REAL_FEEDS_URL": feeds_url,
        },
        simulator_arguments=("--replay", f"ludwigsburg={page}"),
        more_tokens=("LUDWIGSBURG_TOKEN",),
    )


def run_command(module_and_arguments: list[str], log_name: str) -> None:
    """Run ``python -m ...`` with a log of its own. Raises ``DemoError`` with the end of the log."""
    log = control.log_dir() / f"{log_name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-m", *module_and_arguments],
            check=False,
            cwd=REPOSITORY,
            env={**inherited_environment(), **TELEMETRY_OFF, "VAR_DIR": str(var_dir())},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if done.returncode != 0:
        raise DemoError(f"`python -m {' '.join(module_and_arguments)}` failed; the end of {log}:\n{tail(log)}")


def main(progress: Progress, *, real: bool) -> int:
    """Run the demo; return its exit status."""
    try:
        now = datetime.now(UTC)
        if real:
            with files_served(shared_data() / "real_feeds") as url:
                run_demo(real_plan(now, url), progress)
        else:
            run_demo(simulated_plan(now), progress)
    except (DemoError, AirflowError, requests.RequestException, psycopg.Error) as error:
        sys.stderr.write(f"\ndemo FAILED after {progress.seconds:.0f} s: {error}\n")
        return 1
    return 0


def run_demo(plan: Plan, progress: Progress) -> None:
    """Run every step of the plan, print the result, and stop all that was started. Raises when any step failed."""
    if not plan.ingest_dags:
        raise DemoError(f"there is no CPO file in {plan.config_dir}")
    began = datetime.now(UTC)
    options = {**plan.options, "CPO_CONFIG_DIR": str(plan.config_dir)}
    with control.everything(
        progress,
        prepare=lambda: plan.prepare(progress),
        dags_are_paused=True,
        options=options,
        simulator_arguments=plan.simulator_arguments,
        more_tokens=plan.more_tokens,
    ) as (place, supervisor):
        watcher = Watcher(AirflowApi(place.api_url), supervisor, progress)
        watcher.wait_for_dags((*plan.ingest_dags, TRANSFORM, *plan.extract_dags), began)
        for dag_id in (*plan.ingest_dags, TRANSFORM):
            watcher.api.unpause(dag_id)
        ingests = [watcher.api.trigger(dag_id, {}) for dag_id in plan.ingest_dags]
        progress(f"triggered {', '.join(plan.ingest_dags)}")
        for run in ingests:
            watcher.wait_for_success(run, INGEST_SECONDS)
        # The data was there when the last task ended, a moment before its run did.
        ended = [task.ended_at for run in ingests for task in watcher.api.tasks(run) if task.ended_at]
        watcher.wait_for_transform(max(ended))
        for dag_id in plan.extract_dags:
            watcher.api.unpause(dag_id)
            for month in plan.months:
                run = watcher.api.trigger(dag_id, {"month": month})
                progress(f"triggered {dag_id} for {month}")
                watcher.wait_for_success(run, EXTRACT_SECONDS)
        report = [
            *(uptime_of(month) for month in plan.more_report_months),
            *(describe(plan, month) for month in plan.months),
        ]
    sys.stdout.write("\n" + "\n".join(report) + "\n" + how_to_look_further())
    progress("done")


@dataclass
class Watcher:
    """Waits for Airflow, says what happens meanwhile, and gives up with the reason."""

    api: AirflowApi
    supervisor: Supervisor
    progress: Progress
    _told: set[tuple[str, str, str, int]] = field(default_factory=set)

    def wait_for_dags(self, dag_ids: Iterable[str], began: datetime) -> None:
        """Wait until each DAG was read from its file since ``began``. Raises ``DemoError`` on an import error."""
        missing = set(dag_ids)
        deadline = time.monotonic() + PARSE_SECONDS
        while True:
            for failure in self.api.import_failures():
                if failure.seen_at >= began:
                    raise DemoError(f"Airflow cannot import {failure.file}:\n{failure.trace}")
            parsed = {dag_id: self.api.parsed_at(dag_id) for dag_id in missing}
            missing = {dag_id for dag_id, instant in parsed.items() if instant is None or instant < began}
            if not missing:
                self.progress("Airflow has read all DAGs")
                return
            if time.monotonic() > deadline:
                raise DemoError(f"not among the DAGs after {PARSE_SECONDS:.0f} s: {', '.join(sorted(missing))}")
            self._pause()

    def wait_for_success(self, run: DagRun, seconds: float) -> None:
        """Wait until the run succeeded. Raises ``DemoError`` with task and log when it failed or takes too long."""
        began = last_news = time.monotonic()
        while run.state not in FINISHED:
            if time.monotonic() - began > seconds:
                raise DemoError(
                    f"{run.dag_id} is still {run.state} after {seconds:.0f} s: {self._states(run)}; logs: {_logs(run)}"
                )
            self._pause()
            run = self.api.run(run)
            self._tell_retries(run)
            if run.state not in FINISHED and time.monotonic() - last_news > NEWS_SECONDS:
                last_news = time.monotonic()
                self.progress(f"  {run.dag_id} is {run.state}: {self._states(run)}")
        if run.state == "failed":
            raise DemoError(self._why(run))
        self.progress(f"{run.dag_id} succeeded")

    def wait_for_transform(self, data_at: datetime) -> None:
        """Wait for a successful transformation that started after ``data_at``; the assets' events start it."""
        self.progress(f"waiting for the run of {TRANSFORM} that follows the new data")
        deadline = time.monotonic() + TRANSFORM_SECONDS
        while True:
            later = [
                run
                for run in self.api.latest_runs(TRANSFORM)
                if run.started_at is not None and run.started_at >= data_at
            ]
            if later:
                # An earlier run that is still going is followed by one more: the oldest that started late enough will do.
                first = min(later, key=lambda run: run.started_at or data_at)
                self.wait_for_success(first, TRANSFORM_SECONDS)
                return
            if time.monotonic() > deadline:
                raise DemoError(
                    f"no run of {TRANSFORM} started within {TRANSFORM_SECONDS:.0f} s of the last ingestion:"
                    " did its tasks update their assets?"
                )
            self._pause()

    def _pause(self) -> None:
        self.supervisor.look_after()
        time.sleep(POLL_SECONDS)

    def _states(self, run: DagRun) -> str:
        return ", ".join(f"{task.task_id} {task.state or 'waits'}" for task in self.api.tasks(run)) or "no task yet"

    def _tell_retries(self, run: DagRun) -> None:
        for task in self.api.tasks(run):
            key = (task.dag_id, task.run_id, task.task_id, task.try_number)
            if task.state == "up_for_retry" and key not in self._told:
                self._told.add(key)
                self.progress(f"  {task.dag_id}.{task.task_id} failed and will be tried again:\n{_log_tail(task)}")

    def _why(self, run: DagRun) -> str:
        failed = [task for task in self.api.tasks(run) if task.state == "failed"]
        parts = [f"{task.dag_id}, task {task.task_id} failed:\n{_log_tail(task)}" for task in failed]
        return "\n".join(parts) or f"{run.dag_id} failed before any task did: {self._states(run)}"


def _logs(run: DagRun) -> Path:
    return var_dir() / "airflow" / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"


def _log_tail(task: TaskRun, lines: int = 30) -> str:
    """The end of a task's log, its JSON lines made readable."""
    run = DagRun(task.dag_id, task.run_id, "failed", None)
    path = _logs(run) / f"task_id={task.task_id}" / f"attempt={task.try_number}.log"
    text = tail(path, lines)
    return "\n".join([*(f"    {_readable(line)}" for line in text.splitlines()), f"    ({path})"])


def _readable(line: str) -> str:
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict) or "event" not in found:
        return line
    errors = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in found.get("error_detail") or []]
    return " | ".join([f"{found.get('level', '')} {found['event']}", *errors])


def uptime_of(month: str) -> str:
    """The month's uptime per CPO, as an analyst reads it. Raises ``DemoError`` when there is none."""
    with connect(Role.ANALYST) as connection:
        rows = connection.execute(UPTIME_BY_CPO, {"month": date.fromisoformat(f"{month}-01")}).fetchall()
    if not rows:
        raise DemoError(f"marts.fct_charger_uptime_monthly has no row for {month}")
    return f"Uptime in {month} (rule-set evc_2025)\n\n{table(rows)}\n"


def describe(plan: Plan, month: str) -> str:
    """The month's uptime and its packages."""
    lines = [uptime_of(month)]
    for recipient in plan.recipients:
        if store := os.environ.get("OBJECT_STORE_URL"):
            lines.append(f"Package for {recipient}: {store.rstrip('/')}/extracts/{recipient}/{month}/")
            continue
        package = newest_package(var_dir() / "object_store" / "extracts" / recipient / month)
        lines.append(f"Package for {recipient}: {package}")
        lines += [f"  {file.name:28} {file.stat().st_size:>10,} bytes" for file in sorted(package.iterdir())]
    return "\n".join(lines)


def table(rows: Iterable[tuple[object, ...]]) -> str:
    """Lay out (name, four percentages, count); a percentage that is not known is a dash."""
    header = f"{'CPO':24} {'uptime %':>9} {'lower %':>9} {'upper %':>9} {'coverage %':>11} {'EVSEs':>6}"
    lines = [header, "-" * len(header)]
    for name, uptime, lower, upper, coverage, evses in rows:
        numbers = [f"{'-' if value is None else format(value, '.2f'):>9}" for value in (uptime, lower, upper)]
        covered = "-" if coverage is None else format(coverage, ".2f")
        lines.append(f"{name!s:24} {' '.join(numbers)} {covered:>11} {evses!s:>6}")
    return "\n".join(lines)


def newest_package(folder: Path) -> Path:
    """The revision with the highest number. Raises ``DemoError`` when there is none."""
    revisions = [path for path in folder.glob("r*") if path.name[1:].isdecimal()]
    if not revisions:
        raise DemoError(f"no package was written to {folder}")
    return max(revisions, key=lambda path: int(path.name[1:]))


def how_to_look_further() -> str:
    """What to type next."""
    python = os.path.relpath(sys.executable, Path.cwd())
    lines = [
        "",
        "To look further:",
        "  make up                                 run everything, with Airflow's pages, until Ctrl-C",
    ]
    if not warehouse_is_elsewhere():
        lines.append("  make db                                 start Postgres alone and print its URL")
    lines += [
        f"  {python} -m stack psql -- -c 'select * from marts.dim_cpo'",
        "",
        "",
    ]
    return "\n".join(lines)
