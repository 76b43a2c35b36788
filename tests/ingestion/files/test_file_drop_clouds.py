"""Files that lie in Azure Blob or S3, against servers that speak their protocol.

Switched on by naming the server: ``AZURITE_BLOB=/path/to/azurite-blob`` (npm package ``azurite``), ``MOTO_SERVER=/path/to/moto_server`` (``moto[server,s3]``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import requests

from ingestion.config import CpoConfig
from ingestion.file_drop import collect_files
from stack.postgres import free_port
from tests.feeds import changes_of
from tests.waiting import until
from warehouse.connection import Role, connect
from warehouse.object_store import open_store

# Azurite's own, published in its manual: no secret.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"


@pytest.fixture(params=["azure", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an empty folder in a bucket of a running server."""
    if request.param == "azure":
        yield from azure(tmp_path, monkeypatch)
    else:
        yield from s3(tmp_path, monkeypatch)


def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    command = os.environ.get("AZURITE_BLOB")
    if not command:
        pytest.skip("AZURITE_BLOB does not name an azurite-blob: 365 MB from npm are not fetched unasked")
    port = free_port()
    options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1"]
    with running([command, *options, "--blobPort", str(port), "--location", str(tmp_path / "azurite")]):
        place = f"http://127.0.0.1:{port}"
        until(lambda: create_container(place, "drops") in (201, 409), 30)
        for name, value in {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": place,
        }.items():
            monkeypatch.setenv(name, value)
        yield "az://drops/wombat"


def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    command = os.environ.get("MOTO_SERVER")
    if not command:
        pytest.skip("MOTO_SERVER does not name a moto_server: it is no dependency of the project")
    port = free_port()
    with running([command, "-H", "127.0.0.1", "-p", str(port)]):
        place = f"http://127.0.0.1:{port}"
        until(lambda: create_bucket(place, "drops") == 200, 30)
        for name, value in {
            "AWS_ENDPOINT": place,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anything",
        }.items():
            monkeypatch.setenv(name, value)
        yield "s3://drops/wombat"


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


def create_bucket(place: str, name: str) -> int | None:
    """HTTP status of the bucket's creation; ``None`` while nobody answers."""
    try:
        return requests.put(f"{place}/{name}", timeout=5).status_code
    except requests.ConnectionError:
        return None


def create_container(url: str, name: str) -> int | None:
    """HTTP status of the container's creation; ``None`` while nobody answers."""
    date = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}"
    headers = f"x-ms-date:{date}\nx-ms-version:{VERSION}"
    text = "PUT" + "\n" * 12 + f"{headers}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    try:
        return requests.put(
            f"{url}/{ACCOUNT}/{name}?restype=container",
            headers={
                "x-ms-date": date, "x-ms-version": VERSION, "Authorization": f"SharedKey {ACCOUNT}:{signature}",
            },
            timeout=5,
        ).status_code  # fmt: skip
    except requests.ConnectionError:
        return None


class Later:
    """A clock that is past the time in which a file may still be written."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=10)

    def wait_until(self, at: datetime) -> None:
        raise AssertionError("one look is enough")


def test_files_of_an_object_store_are_taken_once_and_a_bad_one_is_set_aside(url: str, warehouse: str) -> None:
    store = open_store(url)
    config = CpoConfig.model_validate(
        {
            "cpo_id": "wombat",
            "name": "Wombat",
            "feed": {
                "kind": "file_drop", "url": url, "pattern": "*.csv", "format": "csv", "is_complete": True,
                "observed_at": "name", "name_time": "%Y%m%dT%H%M.csv", "poll_seconds": 60, "liveness_seconds": 300,
                "status_profile": "ocpp", "time_zone": "Australia/Sydney",
                "mapping": {"site": {"site_id": "site"}, "evse": {"evse_id": "id", "status": "status"}},
            },
        }
    )  # fmt: skip
    store.create("20261001T0100.csv", b"site,id,status\nS1,A,Available\nS1,B,Charging\n")
    store.create("20261001T0101.csv", b"site,id,status\nS1,A,Charging\nS1,B,Charging\n")
    store.create("20261001T0102.csv", b"\x00\xff no table")
    totals = collect_files(config, seconds=0, report=lambda line: None, clock=Later())
    assert (totals.taken, totals.refused, totals.failed_looks) == (2, 1, 0)
    again = collect_files(config, seconds=0, report=lambda line: None, clock=Later())
    assert (again.taken, again.refused, again.failed_looks) == (0, 0, 0)
    first, second = (datetime(2026, 10, 1, 1, minute, tzinfo=UTC) for minute in (0, 1))
    with connect(Role.INGEST) as connection:
        assert changes_of(connection, "wombat") == [
            ("a", first, "Available"), ("b", first, "Charging"), ("a", second, "Charging"),
        ]  # fmt: skip
        assert refused(connection) == ["20261001T0102.csv"]
    paths = {found.path for found in store.objects()}
    assert {"20261001T0100.csv", "20261001T0101.csv"} < paths
    aside = sorted(path for path in paths if path.startswith("rejected/"))
    assert [path.rpartition("/")[2] for path in aside] == ["20261001T0102.csv", "20261001T0102.csv.report.json"]


def refused(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute("select path from raw.file_receipt where outcome = 'refused'").fetchall()
    return [path for (path,) in rows]
