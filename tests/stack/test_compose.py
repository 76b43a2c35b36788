"""docker-compose.yml says the same as stack/processes.py, is valid by the official schema, and names only what exists."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from stack.databases import AIRFLOW, OWNER, WAREHOUSE
from stack.postgres import SETTINGS
from stack.processes import IN_CONTAINERS, Process, migrate_airflow_command, processes, secret_by_file
from warehouse.connection import REPOSITORY

EXPECTED: dict[str, Process] = {process.name: process for process in processes(IN_CONTAINERS)}
BESIDES = {"postgres", "migrate-warehouse", "migrate-airflow"}
# In containers the warehouse is always named by a URL, and its secret is a file like the others.
WAREHOUSE_SECRET = "WAREHOUSE_URL"  # noqa: S105


def dot_env() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(text: str) -> str:
    """What compose makes of ``${NAME:-default}`` when the variable is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    path = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def secrets_of(name: str) -> set[str]:
    process = EXPECTED[name]
    return {*process.secrets, *([] if name == "simulator" else [WAREHOUSE_SECRET])}


def test_the_file_is_valid_by_the_compose_specification(compose: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(compose, schema)


@pytest.mark.parametrize(("key", "value"), [("comand", ["true"]), ("ports", 8080), ("healthcheck", {"test": 1})])
def test_the_schema_refuses_a_mistake(compose: dict[str, Any], schema: dict[str, Any], key: str, value: object) -> None:
    wrong = json.loads(json.dumps(compose))
    wrong["services"]["simulator"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_the_services_are_the_processes_and_what_comes_before_them(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == set(EXPECTED) | BESIDES


@pytest.mark.parametrize("name", EXPECTED)
def test_a_service_runs_the_command_of_its_process(compose: dict[str, Any], name: str) -> None:
    assert tuple(compose["services"][name]["command"]) == EXPECTED[name].command


@pytest.mark.parametrize("name", EXPECTED)
def test_a_service_has_the_variables_of_its_process(compose: dict[str, Any], name: str) -> None:
    found = {key: interpolated(value) for key, value in compose["services"][name]["environment"].items()}
    by_file = dict(secret_by_file(secret) for secret in secrets_of(name))
    assert found == {**EXPECTED[name].environment, **by_file}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_service_gets_the_secrets_of_its_process_and_no_other(compose: dict[str, Any], name: str) -> None:
    assert set(compose["services"][name]["secrets"]) == secrets_of(name)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_service_is_asked_for_its_health_like_its_process(compose: dict[str, Any], name: str) -> None:
    question = EXPECTED[name].health.command(IN_CONTAINERS.python)
    assert compose["services"][name]["healthcheck"]["test"] == ["CMD", *question]


def test_services_stop_in_the_order_of_the_processes(compose: dict[str, Any]) -> None:
    """Compose stops a service before those it depends on."""
    in_order = sorted(EXPECTED.values(), key=lambda process: process.stop_order)
    for index, process in enumerate(in_order):
        later = {other.name for other in in_order[index + 1 :]}
        assert later <= set(compose["services"][process.name]["depends_on"])


def test_the_migrations_are_those_of_one_machine(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert tuple(services["migrate-airflow"]["command"]) == migrate_airflow_command(IN_CONTAINERS)
    assert services["migrate-warehouse"]["command"] == ["python", "-m", "warehouse", "migrate"]
    assert services["migrate-airflow"]["environment"] == services["scheduler"]["environment"]


def test_every_service_but_a_migration_has_a_health_check(compose: dict[str, Any]) -> None:
    with_check = {name for name, service in compose["services"].items() if "healthcheck" in service}
    assert with_check == {*EXPECTED, "postgres"}


def test_every_port_is_bound_to_the_loopback_address(compose: dict[str, Any]) -> None:
    ports = [interpolated(port) for service in compose["services"].values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:5432:5432", "127.0.0.1:8070:8070", "127.0.0.1:8080:8080", "127.0.0.1:8090:8090"]


def test_every_module_that_a_command_names_exists(compose: dict[str, Any]) -> None:
    modules = set()
    for service in compose["services"].values():
        for command in (service["command"], service.get("healthcheck", {}).get("test", [])[1:]):
            if command[:2] == ["python", "-m"]:
                modules.add(command[2])
    assert modules == {"airflow", "ingestion", "simulator", "stack.health", "warehouse"}
    for module in modules:
        found = importlib.util.find_spec(module)
        assert found is not None
        assert not found.submodule_search_locations or importlib.util.find_spec(f"{module}.__main__") is not None


def test_every_path_of_this_repository_that_the_file_names_exists(compose: dict[str, Any]) -> None:
    mounts = [mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])]
    paths = {mount for mount in mounts if mount.startswith(".")}
    assert paths == {"./stack/docker/airflow-database.sql"}
    assert all((REPOSITORY / path).exists() for path in paths)
    assert {mount for mount in mounts if not mount.startswith(".")} == set(compose["volumes"])


def test_every_path_that_the_image_copies_exists_and_is_let_through() -> None:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    copied = {source for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for source in line.split()}
    assert {"pyproject.toml", "uv.lock", "stack", "dags", "warehouse"} <= copied
    assert {path for path in copied if not (REPOSITORY / path).exists()} == set()
    ignore = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


def test_the_image_holds_every_package_of_the_project() -> None:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")} - {"tests"}
    assert "stack" in packages
    assert {package for package in packages if f"COPY {package} {package}\n" not in text} == set()


def test_every_secret_and_variable_has_a_local_value(compose: dict[str, Any]) -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    secrets = {secret["environment"] for secret in compose["secrets"].values()}
    used = {name for service in compose["services"].values() for name in service.get("secrets", [])}
    assert used == set(compose["secrets"]) == secrets
    assert set(dot_env()) == secrets | set(re.findall(r"\$\{(\w+):-", text))


def test_the_local_values_fit_together(compose: dict[str, Any]) -> None:
    values = dot_env()
    login = f"{OWNER}:{values['POSTGRES_PASSWORD']}@postgres:5432"
    assert values["WAREHOUSE_URL"] == f"postgresql://{login}/{WAREHOUSE}"
    assert values["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"postgresql+psycopg2://{login}/{AIRFLOW}"
    assert len(values["AIRFLOW__API_AUTH__JWT_SECRET"].encode()) >= 64
    postgres = compose["services"]["postgres"]
    assert (postgres["environment"]["POSTGRES_USER"], postgres["environment"]["POSTGRES_DB"]) == (OWNER, WAREHOUSE)
    script = (REPOSITORY / "stack" / "docker" / "airflow-database.sql").read_text(encoding="utf-8")
    assert f"create database {AIRFLOW};" in script


def test_the_database_has_the_settings_of_the_embedded_one(compose: dict[str, Any]) -> None:
    command = compose["services"]["postgres"]["command"]
    settings = dict(part.split("=", 1) for part in command[2::2])
    assert settings == {name: SETTINGS[name] for name in settings}
    assert {"jit", "timezone", "max_locks_per_transaction"} <= set(settings)
