"""The databases of the embedded Postgres: Airflow's metadata and the migrated warehouse with its logins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from urllib.parse import quote

from psycopg import sql

from stack.files import locked, write_private
from stack.postgres import HOST, EmbeddedPostgres
from warehouse.connection import REPOSITORY, Role, var_dir

OWNER = "warehouse_owner"
WAREHOUSE = "warehouse"
AIRFLOW = "airflow"


class MigrationError(RuntimeError):
    """``python -m warehouse migrate`` failed; the message holds what it said."""


def login_of(role: Role) -> str:
    """The login that stands for a role in the embedded Postgres."""
    return OWNER if role is Role.OWNER else role.value


def warehouse_is_elsewhere(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a setting points at another Postgres than the embedded one."""
    names = ("WAREHOUSE_URL", "WAREHOUSE_OWNER_URL")
    return any(environment.get(name) or environment.get(f"{name}_FILE") for name in names)


def ensure_airflow_database(server: EmbeddedPostgres) -> None:
    """Create Airflow's login and metadata database."""
    with locked(server.folder / "setup.lock"):
        server.ensure_login(AIRFLOW)
        server.create_database(AIRFLOW, owner=AIRFLOW)


def ensure_owner(server: EmbeddedPostgres) -> None:
    """Create the login that owns the warehouse: no superuser, but it may create roles."""
    server.ensure_login(OWNER, "createrole")
    server.execute(sql.SQL("grant pg_read_all_stats to {} with admin option").format(sql.Identifier(OWNER)))


def ensure_warehouse(server: EmbeddedPostgres) -> None:
    """Create and migrate the warehouse, give every role its login, and write ``warehouse.json``."""
    with locked(server.folder / "setup.lock"):
        ensure_owner(server)
        server.create_database(WAREHOUSE, owner=OWNER)
        write_private(server.folder / "warehouse.json", json.dumps(_description(server), indent=2) + "\n")
        write_private(server.folder / "pgpass", _passfile(server))
        migrate({"WAREHOUSE_OWNER_URL": server.url(WAREHOUSE, OWNER)})
        give_logins(server)


def give_logins(server: EmbeddedPostgres) -> None:
    """Let the roles that the migrations created log in, each with its own generated password."""
    for role in Role:
        if role is not Role.OWNER:
            server.ensure_login(login_of(role))


def migrate(extra_environment: Mapping[str, str] | None = None) -> None:
    """Run the warehouse's migrations in a process of their own. Raises ``MigrationError``."""
    done = subprocess.run(
        [sys.executable, "-m", "warehouse", "migrate"],
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, **(extra_environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise MigrationError(f"the migrations failed:\n{done.stdout.strip()}")


def url_without_password(server: EmbeddedPostgres, role: Role) -> str:
    """libpq URL of the warehouse that names the file of passwords: it works in psql, and is safe to print."""
    passfile = quote(str(server.folder / "pgpass"))
    return f"postgresql://{login_of(role)}@{HOST}:{server.port}/{WAREHOUSE}?passfile={passfile}"


def warehouse_server() -> EmbeddedPostgres:
    """The embedded Postgres of this checkout (not started)."""
    return EmbeddedPostgres(var_dir() / "postgres", log=var_dir() / "log" / "postgres.log", say=_say)


def _say(message: str) -> None:
    sys.stderr.write(f"postgres: {message}\n")


def _description(server: EmbeddedPostgres) -> dict[str, object]:
    logins = {role.value: {"user": login_of(role), "password": server.password(login_of(role))} for role in Role}
    return {"host": HOST, "port": server.port, "database": WAREHOUSE, "roles": logins}


def _passfile(server: EmbeddedPostgres) -> str:
    logins = [login_of(role) for role in Role]
    return "".join(f"{HOST}:{server.port}:{WAREHOUSE}:{login}:{server.password(login)}\n" for login in logins)
