"""CPOs that push, a receiver process of its own, and small OCPI objects: for the tests and the benchmark of the receiver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from ingestion import access
from stack.postgres import free_port
from warehouse.connection import REPOSITORY, Role, connect

KEY = "bG9jYWwtb25seS1sb2NhbC1vbmx5LWxvY2FsLW9ubHk="
START_SECONDS = 60.0


def write_cpo(folder: Path, cpo_id: str, **feed: Any) -> None:
    """A CPO file of kind ``ocpi_push``, or of another that is named."""
    settings: dict[str, Any] = {
        "kind": "ocpi_push",
        "status_profile": "ocpi_2_2_1",
        "liveness_seconds": 900,
        "time_zone": "Australia/Sydney",
    }
    if feed.get("kind", "ocpi_push") == "ocpi_push":
        settings |= {
            "version": "2.2.1",
            "versions_url": "http://127.0.0.1:9/versions",
            "party": "AU*ABC",
            "token_secret": "ABC_TOKEN",
            "reconcile_seconds": 300,
        }
    document = {"cpo_id": cpo_id, "name": cpo_id.title(), "feed": {**settings, **feed}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{cpo_id}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")


def issue(cpo_id: str, purpose: access.Purpose = "send") -> str:
    """A token of that CPO."""
    with connect(Role.INGEST) as connection:
        return access.issue(connection, cpo_id, purpose)


class ReceiverProcess:
    """``python -m ingestion serve`` on a free port; its lines go to ``log``."""

    def __init__(self, configs: Path, log: Path, *, cores: set[int] | None = None, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._configs, self._cores, self._environment = configs, cores, environment
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it is well."""
        environment: Mapping[str, str] = {
            **os.environ,
            "CPO_CONFIG_DIR": str(self._configs),
            "CREDENTIALS_KEY": KEY,
            "RECEIVER_URL": self.url,
            **self._environment,
        }
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ingestion", "serve", "--port", str(self.port)],
                cwd=REPOSITORY,
                env=environment,
                stdout=file,
                stderr=file,
            )
        if self._cores:
            os.sched_setaffinity(self.process.pid, self._cores)
        deadline = time.monotonic() + START_SECONDS
        while not self.is_well():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the receiver did not start:\n{self.log.read_text(encoding='utf-8')[-3000:]}")
            time.sleep(0.05)

    def is_well(self) -> bool:
        """Whether ``/health`` says so."""
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connector(connector_id: str = "1", **values: Any) -> dict[str, Any]:
    """An OCPI connector of 22 kW."""
    found = {
        "id": connector_id,
        "standard": "IEC_62196_T2",
        "format": "SOCKET",
        "power_type": "AC_3_PHASE",
        "max_voltage": 230,
        "max_amperage": 32,
        "last_updated": "2026-10-01T00:00:00Z",
    }
    return {**found, **values}


def evse(uid: str, status: str = "AVAILABLE", **values: Any) -> dict[str, Any]:
    """An OCPI EVSE with one connector."""
    found = {
        "uid": uid,
        "evse_id": f"AU*ABC*E{uid}",
        "status": status,
        "connectors": [connector()],
        "last_updated": "2026-10-01T00:00:00Z",
    }
    return {**found, **values}


def location(location_id: str, evses: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    """An OCPI Location in Sydney."""
    found = {
        "country_code": "AU",
        "party_id": "ABC",
        "id": location_id,
        "publish": True,
        "name": f"Site {location_id}",
        "address": "1 George St",
        "city": "Sydney",
        "postal_code": "2000",
        "country": "AUS",
        "coordinates": {"latitude": "-33.860000", "longitude": "151.210000"},
        "time_zone": "Australia/Sydney",
        "evses": evses,
        "last_updated": "2026-10-01T00:00:00Z",
    }
    return {**found, **values}


def stamp(at: datetime) -> str:
    """As OCPI writes times."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def patch_of(status: str, at: datetime) -> dict[str, str]:
    """A PATCH that tells a status."""
    return {"status": status, "last_updated": stamp(at)}


def dumps(value: object) -> bytes:
    """JSON as it is sent."""
    return json.dumps(value).encode()


class Platform(httpx.Client):
    """A CPO's platform that calls the receiver with its token."""

    def __init__(self, url: str, cpo_id: str, token: str, scheme: str = "Token") -> None:
        self.cpo_id = cpo_id
        super().__init__(base_url=url, headers={"Authorization": f"{scheme} {token}"}, timeout=30)

    def push(self, method: str, path: str, body: object) -> tuple[int, int]:
        """Send an object to a path below the Locations of AU*ABC; return HTTP status and OCPI status_code."""
        content = body if isinstance(body, bytes) else dumps(body)
        found = self.request(method, f"/ocpi/2.2.1/locations/AU/ABC/{path}", content=content)
        return found.status_code, found.json()["status_code"]

    def put(self, path: str, body: object, **_: Any) -> tuple[int, int]:  # type: ignore[override]
        """PUT below the Locations of AU*ABC."""
        return self.push("PUT", path, body)

    def patch(self, path: str, body: object, **_: Any) -> tuple[int, int]:  # type: ignore[override]
        """PATCH below the Locations of AU*ABC."""
        return self.push("PATCH", path, body)

    def look(self, path: str) -> Any:
        """GET below the Locations of AU*ABC: the data of the answer."""
        return self.get(f"/ocpi/2.2.1/locations/AU/ABC/{path}").json()["data"]


def quarantined(cpo_id: str) -> list[tuple[str, str | None, str]]:
    """What stands in quarantine: record, field, reason."""
    with connect(Role.INGEST) as connection:
        return connection.execute(
            """
            select record_ref, field, reason from raw.quarantine inner join raw.feed using (feed_key)
            where feed_id = %s order by quarantine_key
            """,
            (cpo_id,),
        ).fetchall()


def changes(cpo_id: str) -> list[tuple[str, datetime, str | None]]:
    """Stored changes: EVSE's identity, time, word; in order of time."""
    with connect(Role.INGEST) as connection:
        return connection.execute(
            """
            select evse_ref, observed_at, status_word
            from raw.status_change inner join raw.evse using (evse_key)
            inner join raw.feed on feed.feed_key = evse.feed_key
            where feed_id = %s order by observed_at, change_key
            """,
            (cpo_id,),
        ).fetchall()


def assets(cpo_id: str) -> list[tuple[Any, ...]]:
    """Stored descriptions: EVSE's identity, connector, site's name, power, whether listed; in order of storing."""
    with connect(Role.INGEST) as connection:
        return connection.execute(
            """
            select evse_ref, connector_id, site_name, power_kw::float, is_listed
            from raw.asset_version as version inner join raw.evse using (evse_key)
            inner join raw.feed on feed.feed_key = version.feed_key
            where feed_id = %s order by asset_version_key
            """,
            (cpo_id,),
        ).fetchall()


def wanted_at(cpo_id: str) -> datetime | None:
    """When a full list was last asked for."""
    with connect(Role.INGEST) as connection:
        row = connection.execute(
            "select reconcile_wanted_at from raw.feed_life inner join raw.feed using (feed_key) where feed_id = %s",
            (cpo_id,),
        ).fetchone()
    return None if row is None else row[0]
