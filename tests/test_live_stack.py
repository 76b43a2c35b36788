"""Every kind of feed under the real Airflow: held through a killed scheduler, overlapping runs and a deploy.

What ``make up`` starts is started here, on a state folder of its own; the CPOs are a simulator in this process, so that they live on while the stack goes
down. What must be in raw is worked out as in ``tests/ingestion/test_every_feed_kind.py``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from simulator.quick import QuickSource
from simulator.server import build_app, serve_in_thread
from stack.airflow_api import AirflowApi, DagRun
from tests.ingestion.kinds_world import MAPPING, STATUSES, Event, Kinds, Poll, findings, held, logged, truth_until
from tests.waiting import until
from warehouse.connection import REPOSITORY, var_dir

SOURCE = QuickSource(seed=21, evse_count=20, mean_seconds=4)
LIVENESS_SECONDS = 120
MINUTES = 20
"""Longer than all of it takes."""
NAMES = ("asked", "dropped", "events", "posted", "pushed", "socket", "vanishing")
TOKENS = {name: f"{name}-token-of-a-test" for name in NAMES}
BY_CONNECTION = "events"
"""The feed whose token stands in an Airflow connection; those of the others are in the environment."""


def header(name: str) -> dict[str, Any]:
    return {"kind": "header", "name": "X-Api-Key", "secret": f"{name.upper()}_TOKEN"}


def websocket(url: str, name: str) -> dict[str, Any]:
    return {
        "kind": "websocket",
        "url": f"{url.replace('http', 'ws')}/{name}/ws",
        "auth": header(name),
        "subscribe": [{"action": "subscribe", "snapshot": True}],
        "messages": STATUSES,
        "mapping": MAPPING,
        "snapshot_when": "type == 'snapshot'",
        "quiet_seconds": 5,
    }


def ocpi(url: str, name: str) -> dict[str, Any]:
    return {
        "version": "2.2.1",
        "versions_url": f"{url}/{name}/ocpi/versions",
        "party": "AU*QCK",
        "token_secret": f"{name.upper()}_TOKEN",
    }


def settings(url: str, drops: Path) -> dict[str, dict[str, Any]]:
    """One feed of each kind that Airflow or the receiver serves."""
    return {
        "asked": {"kind": "ocpi_pull", **ocpi(url, "asked"), "poll_seconds": 3},
        "dropped": {
            "kind": "file_drop",
            "poll_seconds": 2,
            "url": drops.as_uri(),
            "format": "csv",
            "mapping": {
                "site": {"site_id": "station_code", "time_zone": "tz", "latitude": "lat", "longitude": "lng"},
                "evse": {"evse_id": "ref", "status": "state", "updated_at": "changed"},
                "connector": {"connector_id": "plug_no", "power": {"path": "plug_kw", "unit": "kW"}},
            },
            "is_complete": True,
            "observed_at": "name",
            "name_time": NAME_TIME,
        },
        "events": {
            "kind": "sse",
            "url": f"{url}/events/sse?snapshot=true",
            "auth": header("events"),
            "messages": STATUSES,
            "mapping": MAPPING,
            "snapshot_when": "type == 'snapshot'",
            "quiet_seconds": 20,
            "resumes": True,
        },
        "posted": {"kind": "rest_push"},
        "pushed": {"kind": "ocpi_push", **ocpi(url, "pushed"), "reconcile_seconds": 30},
        "socket": websocket(url, "socket"),
        "vanishing": websocket(url, "vanishing") | {"alert_after_minutes": 1},
    }


NAME_TIME = "snapshots_%Y%m%dT%H%M%S.%fZ.csv"


class Stack:
    """``python -m stack up`` as a process, on a state folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.said = folder / "up.txt"
        self.airflow = self.receiver = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.said.open("wb") as out:
            self.process = self._run("up", out)
        until(lambda: self._is_over() or "everything is up" in self._text(), 240)
        assert not self._is_over(), self._text()
        self.airflow = re.findall(r"Airflow +(http\S+)", self._text())[-1]
        self.receiver = re.findall(r"receiver +(http\S+)/docs", self._text())[-1]

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=150) == 0, self._text()

    def remove(self) -> None:
        if self.process is not None and not self._is_over():
            self.stop()
        assert self._run("clean", subprocess.DEVNULL).wait(timeout=150) == 0

    def pid(self, name: str) -> int:
        return int(json.loads((self.folder / "run" / f"{name}.json").read_text(encoding="utf-8"))["pid"])

    def api(self) -> AirflowApi:
        return AirflowApi(self.airflow)

    def add_connection(self, name: str, password: str) -> None:
        body = {"connection_id": name, "conn_type": "generic", "password": password}
        self._ask("POST", "/connections", body)

    def end_run(self, run: DagRun) -> None:
        """End a run as a person does on Airflow's page, by giving it the state of one that is over."""
        path = f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}"
        self._ask("PATCH", path, {"state": "success"}, {"update_mask": "state"})

    def _ask(self, method: str, path: str, body: dict[str, Any], parameters: dict[str, str] | None = None) -> None:
        with httpx.Client(base_url=self.airflow, trust_env=False, timeout=30) as client:
            token = client.get("/auth/token").json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            answer = client.request(method, f"/api/v2{path}", json=body, params=parameters, headers=headers)
        assert answer.is_success, answer.text

    def _run(self, command: str, out: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "stack", command],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def _is_over(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _text(self) -> str:
        return self.said.read_text(encoding="utf-8")


@contextmanager
def stack(feeds: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    folder = var_dir() / "test" / "live"
    folder.mkdir(parents=True, exist_ok=True)
    for name in [name for name in os.environ if name.startswith(("WAREHOUSE_", "DBT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VAR_DIR", str(folder))
    monkeypatch.setenv("CPO_CONFIG_DIR", str(feeds))
    for name in NAMES:
        if name != BY_CONNECTION:
            monkeypatch.setenv(f"{name.upper()}_TOKEN", TOKENS[name])
    running = Stack(folder, dict(os.environ))
    try:
        yield running
    finally:
        running.remove()


def issued(feed: Kinds, purpose: str, running: Stack) -> str:
    """A token of the receiver's, as a person issues it."""
    done = subprocess.run(
        [sys.executable, "-m", "ingestion", "tokens", "issue", "--cpo", feed.name, "--purpose", purpose],
        cwd=REPOSITORY,
        env={**os.environ, "CREDENTIALS_KEY_FILE": str(running.folder / "secrets" / "CREDENTIALS_KEY")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()[-1]


def settled(api: AirflowApi, run: DagRun) -> str:
    """State of a run when it is over."""
    until(lambda: api.run(run).state in {"success", "failed"}, 120)
    return api.run(run).state


def contact_since(feed: Kinds, moment: datetime) -> Callable[[], bool]:
    return lambda: any(end > moment for _, end in feed.contacts("complete", "alive"))


def longest_gap(feed: Kinds) -> timedelta:
    """The longest time without contact since the first."""
    ends = [*feed.contacts("complete", "alive")]
    latest, longest = ends[0][0], timedelta(0)
    for start, end in ends:
        longest = max(longest, start - latest)
        latest = max(latest, end)
    return longest


@pytest.mark.skipif("LIVE_STACK" not in os.environ, reason="minutes of real time: LIVE_STACK=1 runs it")
def test_every_kind_is_collected_through_a_kill_an_overlap_and_a_deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build_app(dict.fromkeys(NAMES, SOURCE), TOKENS)
    cpos, drops = tmp_path / "cpos", tmp_path / "drops"
    for folder in (cpos, drops):
        folder.mkdir()
    with serve_in_thread(app) as url, stack(cpos, monkeypatch) as running:
        feeds = {name: Kinds(url, cpos, name) for name in NAMES}
        for name, feed in settings(url, drops).items():
            feeds[name].write_config(**feed, liveness_seconds=LIVENESS_SECONDS)
        running.start()
        running.add_connection(f"{BY_CONNECTION}_token", TOKENS[BY_CONNECTION])
        begin_sending(feeds, running, drops)
        collected = [feed for name, feed in feeds.items() if name != "posted"]
        for feed in collected:
            until(contact_since(feed, datetime.fromtimestamp(0, UTC)), 120)
        watched = feeds["vanishing"]
        watched.control("POST", "fault", name="down")
        watched.control("POST", "fault", name="disconnect")
        silent_since = datetime.now(UTC)

        os.kill(running.pid("scheduler"), signal.SIGKILL)
        heard_again(feeds, datetime.now(UTC))

        api = running.api()
        for feed in collected:
            api.trigger(f"ingest_{feed.name}", {})
        until(lambda: all(len(running_runs(api, feed)) == 2 for feed in collected if feed is not watched), 60)
        for feed in collected:
            running.end_run(running_runs(api, feed)[-1])
        heard_again(feeds, datetime.now(UTC))
        until(lambda: datetime.now(UTC) - silent_since > timedelta(minutes=1, seconds=5), 90)
        alert = api.trigger("watch_feeds", {})
        assert settled(api, alert) == "failed"
        states = {task.task_id: task.state for task in api.tasks(alert)}
        assert {name for name, state in states.items() if state == "failed"} == {"watch_vanishing"}, states

        running.stop()
        running.start()
        heard_again(feeds, datetime.now(UTC))
        for feed in ("posted", "pushed"):
            feeds[feed].control("DELETE", "push")
        feeds["dropped"].control("DELETE", "drop")
        running.stop()

        running_postgres(running)
        gaps = {feed.name: longest_gap(feed) for feed in collected if feed is not watched}
        assert max(gaps.values()) < timedelta(seconds=LIVENESS_SECONDS), gaps
        wrong = {name: found for name, feed in feeds.items() if (found := wrong_with(feed))}
        assert wrong == {}
        logs = [path.read_text(encoding="utf-8", errors="replace") for path in running.folder.rglob("*.log")]
        # What arrived stands in the task's own log.
        assert {
            told
            for told in ("EVSEs: ", " full list of ", "csv: taken: ", "another collector writes", "taking over")
            if not any(told in text for text in logs)
        } == set()
        assert [token for token in TOKENS.values() for text in logs if token in text] == []


def begin_sending(feeds: dict[str, Kinds], running: Stack, drops: Path) -> None:
    """Have the CPOs that send by themselves do so."""
    posts = f"{running.receiver}/v1"
    token = issued(feeds["posted"], "send", running)
    feeds["posted"].control(
        "POST", "push", kind="rest", url=f"{posts}/observations", assets_url=f"{posts}/assets", token=token
    )
    token = issued(feeds["pushed"], "register", running)
    registration = {"url": f"{running.receiver}/ocpi/versions", "token": token}
    until(lambda: bool(feeds["pushed"].contacts("complete")), 90)
    feeds["pushed"].control("POST", "push", kind="ocpi", **registration, registers=True, puts_first=True)
    feeds["dropped"].control("POST", "drop", folder=str(drops), every=3, format="csv", what="snapshots")


def running_runs(api: AirflowApi, feed: Kinds) -> list[DagRun]:
    return [run for run in api.latest_runs(f"ingest_{feed.name}") if run.state == "running"]


def heard_again(feeds: dict[str, Kinds], moment: datetime) -> None:
    """Wait until every feed that speaks is known to have spoken after this."""
    for name, feed in feeds.items():
        if name == "posted":
            until(lambda: any(row.at > moment for row in feeds["posted"].rows()), LIVENESS_SECONDS)
        elif name != "vanishing":
            until(contact_since(feed, moment), LIVENESS_SECONDS)


def running_postgres(running: Stack) -> None:
    """Have only Postgres up, to ask it."""
    assert running._run("db", subprocess.DEVNULL).wait(timeout=60) == 0


def wrong_with(feed: Kinds) -> list[str]:
    """What is lost, twice or from nowhere in raw."""
    now = datetime.now(UTC)
    certain: list[Event] = []
    if feed.name in ("events", "socket", "vanishing"):
        spans = held(feed)
        certain = [one for one in logged(feed, "sent") if any(start <= one.at <= end for start, end in spans)]
    elif feed.name in ("posted", "pushed"):
        certain = logged(feed, "200", "200/1000", "201/1000")
    truth = truth_until(now, SOURCE, MINUTES)
    if feed.name == "dropped":
        return [] if len(feed.files_taken()) > 20 else [f"only {feed.files_taken()}"]
    if feed.name in ("posted", "pushed", "socket"):
        assert len(certain) > 100, feed.name
    return findings(feed, certain, truth, [*latest_answers(feed)], SOURCE)


def latest_answers(feed: Kinds) -> Iterator[Poll]:
    """The complete contacts, until when the later of two windows that asked at one time may have been answered."""
    received: dict[datetime, datetime] = {}
    for row, received_at in feed.received().items():
        received[row.at] = max(received_at, received.get(row.at, received_at))
    for poll in feed.polls():
        yield Poll(poll.at, max(poll.received_at, received.get(poll.at, poll.received_at)))
