"""Our pull against an OCPI sender that others wrote: ``extrawest-ocpi``, in an environment of its own.

It has habits of its own, all of them seen elsewhere too: Links with a wrong scheme and path, ids in small letters, HTTP 403 for a wrong token, and in 2.1.1
a token that ``versions`` wants in base64 and everything else raw.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scripted_server import connector, evse, location, pull_config

from ingestion.config import CpoConfig
from ingestion.http import HttpTransport
from ingestion.model import FeedError, Poll
from ingestion.ocpi.pull import OcpiPull
from warehouse.connection import var_dir

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "extrawest_requirements.txt"
TOKEN = "third-party-s3cret"  # noqa: S105
UNREACHABLE = re.compile(r"failed to fetch|error sending request|dns error|timed out|connection refused", re.IGNORECASE)


@pytest.fixture(scope="session")
def extrawest_python() -> Path:
    """The Python of an environment that holds ``extrawest-ocpi``, built once for these requirements."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = var_dir() / "cache" / f"extrawest-ocpi-{version}-{digest}"
    python, built = folder / "bin" / "python", folder / "built"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv("venv", "--python", sys.executable, str(folder))
            uv("pip", "install", "--no-deps", "--python", str(python), "--requirement", str(REQUIREMENTS))
            built.touch()
    return python


def uv(*arguments: str) -> None:
    """Run the uv that built the project's environment; skip when it says that the registry cannot be reached."""
    program = shutil.which("uv") or str(var_dir() / "uv" / "bin" / "uv")
    # As `stack/bootstrap.sh` has it: the same cache, and the certificates that the machine trusts.
    settings = {"UV_CACHE_DIR": str(var_dir() / "uv-cache"), "UV_SYSTEM_CERTS": "true"} | os.environ
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=settings, check=False)
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Sender:
    """A running CPO and the file that it reads its Locations from."""

    url: str
    file: Path

    def publish(self, locations: dict[str, list[dict[str, Any]]]) -> None:
        """Replace all Locations, by version."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"2.1.1": [], "2.2.1": []} | locations), encoding="utf-8")
        new.replace(self.file)

    def config(self, version: str) -> CpoConfig:
        return pull_config(self.url, version=version, status_profile=f"ocpi_{version.replace('.', '_')}")

    def open(self, version: str, token: str = TOKEN) -> OcpiPull:
        transport = HttpTransport(backoff_seconds=0)
        return OcpiPull(self.config(version), f"{self.url}/ocpi/versions", token, transport)


@pytest.fixture(scope="module")
def sender(extrawest_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    file = tmp_path_factory.mktemp("extrawest") / "locations.json"
    log = file.with_name("log")
    command = [str(extrawest_python), str(HERE / "extrawest_sender.py"), str(file), TOKEN]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as running,
    ):
        try:
            assert running.stdout is not None
            port = running.stdout.readline().strip()
            assert port.isdigit(), log.read_text(encoding="utf-8")
            yield Sender(f"http://127.0.0.1:{port}", file)
        finally:
            running.terminate()


def location_of(version: str, number: int) -> dict[str, Any]:
    """One Location with two EVSEs as the version has it."""
    ports = [evse(f"{number:03}-{side}", last_updated="2026-10-01T00:00:00Z") for side in "AB"]
    whole = location(f"Site{number:03}", evses=ports, last_updated="2026-10-01T00:00:00Z")
    if version == "2.1.1":
        plug = connector(voltage=230, amperage=16, tariff_id="1")
        del plug["max_voltage"], plug["max_amperage"]
        for port in ports:
            port["connectors"] = [plug]
        whole["type"] = "ON_STREET"
        for name in ("country_code", "party_id", "publish", "state"):
            del whole[name]
    return whole


def words(poll: Poll) -> dict[str, str]:
    return {ref: word for ref, (word, _) in poll.statuses.items()}


@pytest.mark.parametrize("version", ["2.2.1", "2.1.1"])
def test_all_of_a_third_partys_list_is_read_and_then_what_changed(sender: Sender, version: str) -> None:
    items = [location_of(version, number) for number in range(230)]
    sender.publish({version: items})
    feed = sender.open(version)
    poll = feed.poll()
    assert words(poll) == {f"site{number:03}/{number:03}-{side}": "AVAILABLE" for number in range(230) for side in "ab"}
    assert (poll.rejected, poll.is_full) == ((), True)
    assert len(poll.assets) == 460
    assert {(str(asset.power_kw), asset.time_zone, asset.latitude) for asset in poll.assets} == {
        ("11.040", "Australia/Broken_Hill", -31.9505)
    }
    assert feed.poll().is_unchanged

    now = datetime(2026, 10, 5, 12, tzinfo=UTC)
    assert feed.poll_since(now) == Poll(None, is_full=False)
    for number in (3, 117, 229):
        items[number]["evses"][0]["status"] = "CHARGING"
        items[number]["evses"][0]["last_updated"] = items[number]["last_updated"] = "2026-10-05T11:59:30Z"
    sender.publish({version: items})
    delta = feed.poll_since(now)
    assert words(delta) == {
        f"site{number:03}/{number:03}-{side}": "CHARGING" if side == "a" else "AVAILABLE"
        for number in (3, 117, 229)
        for side in "ab"
    }
    assert (delta.rejected, delta.is_full) == ((), False)
    full = feed.poll()
    assert sum(word == "CHARGING" for word in words(full).values()) == 3
    feed.close()


@pytest.mark.parametrize("version", ["2.2.1", "2.1.1"])
def test_a_third_party_refuses_a_wrong_token(sender: Sender, version: str) -> None:
    sender.publish({version: [location_of(version, 1)]})
    feed = sender.open(version, "wrong-s3cret")
    with pytest.raises(FeedError, match=r"HTTP 401|HTTP 403|status_code 3000") as caught:
        feed.poll()
    assert "wrong-s3cret" not in repr(caught.value)
    feed.close()


def test_a_third_partys_empty_list_is_an_empty_network(sender: Sender) -> None:
    sender.publish({})
    feed = sender.open("2.2.1")
    poll = feed.poll()
    assert (poll.statuses, poll.is_full) == ({}, True)
    feed.close()


def test_a_third_partys_failure_on_http_200_is_a_failure(sender: Sender) -> None:
    """Its own check of what it sends fails: it answers HTTP 200, status_code 3000, and no data."""
    broken = location_of("2.2.1", 1)
    del broken["coordinates"]
    sender.publish({"2.2.1": [broken]})
    feed = sender.open("2.2.1")
    with pytest.raises(FeedError, match="HTTP 200, but OCPI status_code 3000"):
        feed.poll()
    feed.close()
