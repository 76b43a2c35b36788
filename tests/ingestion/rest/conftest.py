from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingestion.ocpi.scripted_server import ScriptedServer

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(scope="session")
def real_feeds() -> Path:
    folder = Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data") / "real_feeds"
    if not folder.is_dir():
        pytest.skip(f"no shared data in {folder} (set SHARED_DATA)")
    return folder
