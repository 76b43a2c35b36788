"""The few questions the demo asks of Airflow's REST API (``/api/v2``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import requests

TIMEOUT_SECONDS = (3.0, 15.0)
FINISHED = frozenset({"success", "failed"})


class AirflowError(RuntimeError):
    """Airflow refused a request; the message says which and why."""


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str
    started_at: datetime | None


@dataclass(frozen=True)
class TaskRun:
    """One task of one run, at its latest try."""

    dag_id: str
    run_id: str
    task_id: str
    state: str | None
    try_number: int
    ended_at: datetime | None


@dataclass(frozen=True)
class ImportFailure:
    """A file in the folder of DAGs that could not be read."""

    file: str
    seen_at: datetime
    trace: str


class AirflowApi:
    """A session with the api-server at ``base_url``; the token comes from the server itself (all are admins)."""

    def __init__(self, base_url: str) -> None:
        self._base = base_url
        self._session = requests.Session()
        # The server is on this machine: no proxy may come between.
        self._session.trust_env = False
        answer = self._session.get(f"{base_url}/auth/token", timeout=TIMEOUT_SECONDS)
        if answer.status_code not in (200, 201):
            raise AirflowError(f"GET /auth/token: HTTP {answer.status_code}")
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def parsed_at(self, dag_id: str) -> datetime | None:
        """When the DAG was last read from its file; None when Airflow does not know it."""
        found = self._request("GET", f"/dags/{dag_id}", missing_is_fine=True)
        return _instant(found["last_parsed_time"]) if found and not found["has_import_errors"] else None

    def import_failures(self) -> list[ImportFailure]:
        """Every file that could not be read, of this start and of earlier ones."""
        return [
            ImportFailure(
                file=one["filename"],
                seen_at=datetime.fromisoformat(one["timestamp"]),
                trace=one["stack_trace"],
            )
            for one in self._request("GET", "/importErrors", {"limit": 100})["import_errors"]
        ]

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler start runs of this DAG."""
        self._request("PATCH", f"/dags/{dag_id}", {"update_mask": "is_paused"}, {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, str]) -> DagRun:
        """Start a run by hand."""
        body = {"logical_date": None, "conf": dict(conf)}
        return _run(self._request("POST", f"/dags/{dag_id}/dagRuns", {}, body))

    def run(self, run: DagRun) -> DagRun:
        """The same run, as it is now."""
        return _run(self._request("GET", f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}"))

    def latest_runs(self, dag_id: str) -> list[DagRun]:
        """The latest runs of a DAG, the newest first."""
        found = self._request("GET", f"/dags/{dag_id}/dagRuns", {"order_by": "-run_after", "limit": 50})
        return [_run(one) for one in found["dag_runs"]]

    def tasks(self, run: DagRun) -> list[TaskRun]:
        """The tasks of a run."""
        path = f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}/taskInstances"
        return [
            TaskRun(
                dag_id=one["dag_id"],
                run_id=one["dag_run_id"],
                task_id=one["task_id"],
                state=one["state"],
                try_number=one["try_number"],
                ended_at=_instant(one["end_date"]),
            )
            for one in self._request("GET", path, {"limit": 100})["task_instances"]
        ]

    def _request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        missing_is_fine: bool = False,
    ) -> Any:
        address = f"{self._base}/api/v2{path}"
        answer = self._session.request(method, address, params=parameters, json=body, timeout=TIMEOUT_SECONDS)
        if missing_is_fine and answer.status_code == 404:
            return None
        if not answer.ok:
            raise AirflowError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:500]}")
        return answer.json()


def _run(found: Mapping[str, Any]) -> DagRun:
    return DagRun(
        dag_id=found["dag_id"],
        run_id=found["dag_run_id"],
        state=found["state"],
        started_at=_instant(found["start_date"]),
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
