"""This machine: ports, secrets and folders for the list of processes, all kept under ``var/``."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from ingestion.config import cpo_ids
from stack.databases import AIRFLOW
from stack.files import locked, read_json, secret_file, write_private
from stack.postgres import HOST, EmbeddedPostgres, free_port, port_is_free
from stack.processes import (
    OPTIONAL,
    RECEIVER_SECRETS,
    SIMULATOR_TOKENS,
    Place,
    Process,
    airflow_environment,
    migrate_airflow_command,
)
from warehouse.connection import REPOSITORY, var_dir

PREFERRED_PORTS: Mapping[str, int] = {"AIRFLOW_PORT": 8080, "RECEIVER_PORT": 8070, "SIMULATOR_PORT": 8090}
JWT_BYTES = 64

# Ports that this process has set aside, for as long as it lives.
_reservations: dict[int, socket.socket] = {}


class MachineError(RuntimeError):
    """Something this machine lacks or refuses; the message says what to do."""


def port_for(variable: str) -> int:
    """The port of that variable, else the one kept from the last time, else the usual one, else any that is free."""
    if asked := os.environ.get(variable):
        if not (asked.isdecimal() and reserve(int(asked))):
            raise MachineError(f"{variable}={asked}: not a free port")
        return int(asked)
    path = var_dir() / "run" / "ports.json"
    with locked(path.with_suffix(".lock")):
        kept = read_json(path)
        for port in (kept.get(variable), PREFERRED_PORTS[variable]):
            if port is not None and port not in _others(kept, variable) and reserve(port):
                break
        else:
            port = free_port()
            while not reserve(port):
                port = free_port()
        write_private(path, json.dumps({**kept, variable: port}) + "\n")
    return int(port)


def reserve(port: int) -> bool:
    """Set a port aside for a process that we are about to start; False when it is taken.

    Two checkouts that start at once both see a port free before either listens on it. So whoever wants one first
    takes a name that belongs to the port (a socket without a file), and holds it as long as it lives.
    """
    if port in _reservations:
        return port_is_free(port)
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0chargeatlarge-port-{port}")
    except OSError:
        mark.close()
        return False
    if not port_is_free(port):
        mark.close()
        return False
    _reservations[port] = mark
    return True


def _others(kept: Mapping[str, int], variable: str) -> set[int]:
    return {port for name, port in kept.items() if name != variable}


def place_here(
    *,
    dags_are_paused: bool = False,
    dags: Path | None = None,
    options: Mapping[str, str] | None = None,
    simulator_arguments: tuple[str, ...] = (),
    more_tokens: tuple[str, ...] = (),
) -> Place:
    """Describe this machine; optional variables come from ``options`` or else from the environment."""
    api_port = port_for("AIRFLOW_PORT")
    receiver_port = port_for("RECEIVER_PORT")
    chosen = {name: os.environ[name] for name in OPTIONAL if os.environ.get(name)} | dict(options or {})
    folder = chosen.get("CPO_CONFIG_DIR")
    cpo_count = len(cpo_ids(Path(folder) if folder else None))
    return Place(
        python=sys.executable,
        checkout=REPOSITORY,
        var=var_dir(),
        dags=dags or REPOSITORY / "dags",
        listen_host=HOST,
        simulator_host=HOST,
        simulator_port=port_for("SIMULATOR_PORT"),
        receiver_host=HOST,
        receiver_port=receiver_port,
        public_receiver_url=os.environ.get("RECEIVER_URL") or f"http://{HOST}:{receiver_port}",
        api_host=HOST,
        api_port=api_port,
        public_api_url=f"http://{HOST}:{api_port}",
        dags_are_paused=dags_are_paused,
        options=chosen,
        # A CPO holds a slot all the time, and two while one window hands over to the next.
        slots=2 * cpo_count + 6,
        simulator_arguments=simulator_arguments,
        tokens=(*SIMULATOR_TOKENS, *more_tokens),
    )


def secret_values(server: EmbeddedPostgres, tokens: tuple[str, ...] = SIMULATOR_TOKENS) -> dict[str, str]:
    """Every secret the processes need; the first call generates those that are ours to choose."""
    folder = var_dir() / "secrets"
    fernet = ("AIRFLOW__CORE__FERNET_KEY", *RECEIVER_SECRETS)
    with locked(folder / ".fernet.lock"):
        for name in fernet:
            if not (folder / name).exists():
                write_private(folder / name, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    return {
        **{name: secret_file(folder / name) for name in tokens},
        "AIRFLOW__API__SECRET_KEY": secret_file(folder / "AIRFLOW__API__SECRET_KEY"),
        "AIRFLOW__API_AUTH__JWT_SECRET": secret_file(folder / "AIRFLOW__API_AUTH__JWT_SECRET", JWT_BYTES),
        **{name: secret_file(folder / name) for name in fernet},
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": server.url(AIRFLOW, AIRFLOW).replace(
            "postgresql://", "postgresql+psycopg2://", 1
        ),
    }


def inherited_environment() -> dict[str, str]:
    """Our own environment, but for what would make a process slow or different."""
    unwanted = {
        # Without compiled files every `import airflow` costs seconds.
        "PYTHONDONTWRITEBYTECODE",
    }
    return {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted and not name.startswith(("AIRFLOW__", "PYTEST_"))
    }


def environment_of(process: Process, values: Mapping[str, str]) -> dict[str, str]:
    """Full environment of a process on this machine; ``values`` are those of ``secret_values``."""
    return {
        **inherited_environment(),
        **process.environment,
        **{name: values[name] for name in process.secrets},
    }


def migrate_airflow(place: Place, server: EmbeddedPostgres) -> bool:
    """Bring Airflow's metadata to the installed version; say whether there was anything to do."""
    stamp = server.folder / "airflow-migrated"
    installed = version("apache-airflow")
    with locked(server.folder / "setup.lock"):
        if stamp.exists() and stamp.read_text(encoding="utf-8") == installed:
            return False
        environment = {**inherited_environment(), **airflow_environment(place), **secret_values(server)}
        done = subprocess.run(
            migrate_airflow_command(place),
            check=False,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise MachineError(f"`airflow db migrate` failed:\n{done.stdout[-4000:].strip()}")
        stamp.write_text(installed, encoding="utf-8")
    return True
