"""Ports and secrets of this machine."""

from __future__ import annotations

import base64
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import machine
from stack.machine import MachineError, place_here, port_for, reserve, secret_values
from stack.postgres import HOST, EmbeddedPostgres, free_port
from stack.processes import AIRFLOW_SECRETS, RECEIVER_SECRETS, SIMULATOR_TOKENS, airflow_environment
from warehouse.connection import REPOSITORY


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """State of its own for each test, no port of the environment's, and nothing kept reserved."""
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    for name in machine.PREFERRED_PORTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "_reservations", {})
    yield tmp_path
    for mark in machine._reservations.values():
        mark.close()


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> int:
    """The usual port of Airflow, for the length of a test: one that is free here."""
    port = free_port()
    monkeypatch.setattr(machine, "PREFERRED_PORTS", {"AIRFLOW_PORT": port, "SIMULATOR_PORT": port})
    return port


def test_the_usual_port_is_taken_and_kept(usual: int) -> None:
    assert port_for("AIRFLOW_PORT") == usual
    assert port_for("AIRFLOW_PORT") == usual


def test_two_services_never_get_one_port(usual: int) -> None:
    assert port_for("AIRFLOW_PORT") == usual
    assert port_for("SIMULATOR_PORT") != usual


def test_a_port_on_which_somebody_listens_is_passed_over(usual: int) -> None:
    with socket.socket() as listener:
        listener.bind((HOST, usual))
        listener.listen()
        assert port_for("AIRFLOW_PORT") != usual


def test_a_port_that_another_checkout_is_about_to_use_is_passed_over(usual: int) -> None:
    code = f"from stack.machine import reserve; assert reserve({usual}); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert port_for("AIRFLOW_PORT") != usual
        other.communicate("\n", timeout=20)
    assert reserve(usual)


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        monkeypatch.setenv("AIRFLOW_PORT", str(listener.getsockname()[1]))
        with pytest.raises(MachineError, match="not a free port"):
            port_for("AIRFLOW_PORT")


@pytest.mark.parametrize(("cpo_count", "slots"), [(0, 6), (3, 12), (40, 86)])
def test_every_cpo_has_two_slots_of_airflow_and_all_else_has_six(cpo_count: int, slots: int, tmp_path: Path) -> None:
    for number in range(cpo_count):
        (tmp_path / f"cpo_{number}.yml").touch()
    place = place_here(options={"CPO_CONFIG_DIR": str(tmp_path)})
    assert airflow_environment(place)["AIRFLOW__CORE__PARALLELISM"] == str(slots)


def test_secrets_are_long_enough_kept_and_for_their_owner_only(own_folder: Path, postgres: EmbeddedPostgres) -> None:
    values = secret_values(postgres)
    assert set(values) == {*AIRFLOW_SECRETS, *RECEIVER_SECRETS, *SIMULATOR_TOKENS}
    assert len(values["AIRFLOW__API_AUTH__JWT_SECRET"].encode()) >= 64
    for name in ("AIRFLOW__CORE__FERNET_KEY", *RECEIVER_SECRETS):
        assert len(base64.urlsafe_b64decode(values[name])) == 32
    assert len(set(values.values())) == len(values)
    assert secret_values(postgres) == values
    files = [path for path in (own_folder / "secrets").iterdir() if not path.name.startswith(".")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {path.name for path in files} == set(values) - {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}


def test_processes_are_not_slowed_down_by_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SequentialExecutor")
    monkeypatch.setenv("KEPT", "1")
    found = machine.inherited_environment()
    assert found["KEPT"] == "1"
    assert {"PYTHONDONTWRITEBYTECODE", "AIRFLOW__CORE__EXECUTOR"} & set(found) == set()
    assert "PYTHONDONTWRITEBYTECODE" in os.environ
