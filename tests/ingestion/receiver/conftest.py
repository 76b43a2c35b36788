"""A receiver in a process that CPOs' platforms can call, over a warehouse that the tests of a file share; each test has CPOs of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingestion.receiver.push_world import Platform, ReceiverProcess, issue, write_cpo
from warehouse.connection import REPOSITORY

MOST_CPOS = 100
_numbers = itertools.count()


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of CPO files: each ``ocpi_<n>`` pushes OCPI 2.2.1 as AU*ABC, each ``rest_<n>`` posts JSON."""
    folder = tmp_path_factory.mktemp("push") / "cpos"
    for number in range(MOST_CPOS):
        write_cpo(folder, f"ocpi_{number}")
        write_cpo(folder, f"rest_{number}", kind="rest_push", status_profile="history")
    return folder


@pytest.fixture(scope="module")
def receiver(module_warehouse: str, configs: Path) -> Iterator[ReceiverProcess]:
    """``python -m ingestion serve``."""
    running = ReceiverProcess(configs, configs.parent / "receiver.log")
    yield running
    running.stop()


@pytest.fixture
def abc(receiver: ReceiverProcess) -> Iterator[Platform]:
    """The platform of a CPO that pushes OCPI, with a token for sending."""
    cpo_id = f"ocpi_{next(_numbers) % MOST_CPOS}"
    with Platform(receiver.url, cpo_id, issue(cpo_id)) as platform:
        yield platform


@pytest.fixture
def rest(receiver: ReceiverProcess) -> Iterator[Platform]:
    """The platform of a CPO that posts JSON."""
    cpo_id = f"rest_{next(_numbers) % MOST_CPOS}"
    with Platform(receiver.url, cpo_id, issue(cpo_id), scheme="Bearer") as platform:
        yield platform


@pytest.fixture
def shared_data() -> Path:
    """Folder with the specification's examples."""
    folder = Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "ocpi_examples").is_dir():
        pytest.skip(f"no OCPI examples in {folder}: set SHARED_DATA")
    return folder
