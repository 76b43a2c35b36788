"""The one list of processes: what runs, with which environment, how it is asked for its health, in which order it stops.

``make up`` runs this list on one machine (``stack.machine`` fills in places, ports and secrets); ``docker-compose.yml`` runs it
in containers, and a test holds it to this list. Postgres is not in it: it is started first and stopped last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath

from stack.health import Health

SIMULATOR_TOKENS = ("BANKSIA_TOKEN", "MALLEE_TOKEN")
AIRFLOW_SECRETS = (
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
)
# Encrypts what we present to partners: the receiver registers, the collectors ask.
RECEIVER_SECRETS = ("CREDENTIALS_KEY",)
# Given on to every process when they are set.
OPTIONAL = ("COLLECTION_WINDOW_SECONDS", "CPO_CONFIG_DIR", "OBJECT_STORE_URL", "REAL_FEEDS_URL", "RECIPIENTS_CONFIG")
TELEMETRY_OFF: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "SCARF_ANALYTICS": "false",
    "SCARF_NO_ANALYTICS": "true",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}


@dataclass(frozen=True)
class Place:
    """Where the processes run: what differs between one machine and containers."""

    python: str
    checkout: PurePath
    var: PurePath
    dags: PurePath
    listen_host: str
    simulator_host: str
    simulator_port: int
    receiver_host: str
    receiver_port: int
    public_receiver_url: str
    """The address at which a CPO finds the receiver."""
    api_host: str
    api_port: int
    public_api_url: str
    """The address at which a browser finds Airflow."""
    slots: int = 24
    """Tasks that may run at once; each is a worker that is there from the start."""
    dags_are_paused: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    """Values of ``OPTIONAL`` variables."""
    simulator_arguments: tuple[str, ...] = ()
    """What the simulator is to serve besides its own CPOs."""
    tokens: tuple[str, ...] = SIMULATOR_TOKENS
    """Secrets that the simulator asks for and the collector presents."""

    @property
    def simulator_url(self) -> str:
        """Base address of the simulated CPOs."""
        return f"http://{self.simulator_host}:{self.simulator_port}"

    @property
    def receiver_url(self) -> str:
        """Base address of the receiver, as our own processes reach it."""
        return f"http://{self.receiver_host}:{self.receiver_port}"

    @property
    def api_url(self) -> str:
        """Base address of Airflow's API, as its other processes reach it."""
        return f"http://{self.api_host}:{self.api_port}"


@dataclass(frozen=True)
class Process:
    """One process. ``secrets`` names variables whose values never appear in a command line, a log or the compose file."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    health: Health
    stop_order: int


def common_environment(place: Place) -> dict[str, str]:
    """Variables of every process."""
    return {
        "PYTHONPATH": str(place.checkout),
        "PYTHONUNBUFFERED": "1",
        "VAR_DIR": str(place.var),
        **TELEMETRY_OFF,
        **{name: place.options[name] for name in OPTIONAL if name in place.options},
    }


def airflow_environment(place: Place) -> dict[str, str]:
    """Variables of Airflow's processes and of ``airflow`` on the command line; ``AIRFLOW_SECRETS`` come on top."""
    return {
        **common_environment(place),
        "SIMULATOR_URL": place.simulator_url,
        "AIRFLOW_HOME": str(place.var / "airflow"),
        "AIRFLOW__API__BASE_URL": place.public_api_url,
        "AIRFLOW__API__HOST": place.listen_host,
        "AIRFLOW__API__PORT": str(place.api_port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": str(place.dags_are_paused),
        "AIRFLOW__CORE__DAGS_FOLDER": str(place.dags),
        # No api-server, no task: tasks report to this address.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{place.api_url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(place.slots),
        # No login: whoever reaches the port is admin, and it is bound to the loopback address only.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        # A window whose scheduler was killed is begun again soon: within a feed's liveness nothing is lost.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
    }


def migrate_airflow_command(place: Place) -> tuple[str, ...]:
    """Bring Airflow's metadata to the installed version; runs once before Airflow starts."""
    return (place.python, "-m", "airflow", "db", "migrate")


def processes(place: Place) -> tuple[Process, ...]:
    """All processes, in the order in which they start."""
    airflow = airflow_environment(place)
    airflow_secrets = (*AIRFLOW_SECRETS, *RECEIVER_SECRETS, *place.tokens)
    monitor = f"{place.api_url}/api/v2/monitor/health"
    return (
        Process(
            name="simulator",
            command=(
                *(place.python, "-m", "simulator", "serve"),
                *("--host", place.listen_host, "--port", str(place.simulator_port)),
                *place.simulator_arguments,
            ),
            environment=common_environment(place),
            secrets=place.tokens,
            health=Health(f"{place.simulator_url}/health"),
            stop_order=3,
        ),
        Process(
            name="api-server",
            command=(place.python, "-m", "airflow", "api-server"),
            environment=airflow,
            secrets=airflow_secrets,
            health=Health(monitor, "metadatabase"),
            # Last: tasks that are still running report to it.
            stop_order=5,
        ),
        Process(
            name="receiver",
            command=(
                *(place.python, "-m", "ingestion", "serve"),
                *("--host", place.listen_host, "--port", str(place.receiver_port)),
            ),
            environment={
                **common_environment(place),
                # CPO files name it.
                "SIMULATOR_URL": place.simulator_url,
                "RECEIVER_URL": place.public_receiver_url,
            },
            secrets=RECEIVER_SECRETS,
            health=Health(f"{place.receiver_url}/health"),
            # After the simulated CPOs: what they push until their end is taken.
            stop_order=4,
        ),
        Process(
            name="scheduler",
            # The api-server reads task logs from the folder they share.
            command=(place.python, "-m", "airflow", "scheduler", "--skip-serve-logs"),
            environment=airflow,
            secrets=airflow_secrets,
            health=Health(monitor, "scheduler"),
            stop_order=1,
        ),
        Process(
            name="dag-processor",
            command=(place.python, "-m", "airflow", "dag-processor"),
            environment=airflow,
            secrets=airflow_secrets,
            health=Health(monitor, "dag_processor"),
            stop_order=2,
        ),
    )


# In containers every process has a host name, listens on all of its container's addresses, and gets secrets as files.
IN_CONTAINERS = Place(
    python="python",
    checkout=PurePosixPath("/app"),
    var=PurePosixPath("/app/var"),
    dags=PurePosixPath("/app/dags"),
    listen_host="0.0.0.0",  # noqa: S104 - of the container; compose binds its ports to the loopback address
    simulator_host="simulator",
    simulator_port=8090,
    receiver_host="receiver",
    receiver_port=8070,
    public_receiver_url="http://receiver:8070",
    api_host="api-server",
    api_port=8080,
    public_api_url="http://127.0.0.1:8080",
)


def secret_by_file(name: str) -> tuple[str, str]:
    """Variable and value that give a secret as a file of ``/run/secrets`` instead of by value."""
    path = f"/run/secrets/{name}"
    # Airflow reads the output of a command, our own code the file.
    return (f"{name}_CMD", f"cat {path}") if name.startswith("AIRFLOW__") else (f"{name}_FILE", path)
