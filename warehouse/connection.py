"""Who connects to the warehouse, and where it is.

The place is found in this order:

1. ``WAREHOUSE_<ROLE>_URL`` (for example ``WAREHOUSE_INGEST_URL``): a login of its own for that role;
2. ``WAREHOUSE_URL``: one login that owns the warehouse; each connection then switches to its role with ``SET ROLE``;
3. ``var/postgres/warehouse.json``: the embedded Postgres, written by ``python -m stack db``, with a password per role.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url

REPOSITORY = Path(__file__).resolve().parent.parent


class Role(StrEnum):
    """A database role. ``OWNER`` migrates; every other one has the least it needs."""

    OWNER = "owner"
    INGEST = "ingest"
    REGISTRAR = "registrar"
    TRANSFORM = "transform"
    ANALYST = "analyst"
    PORTAL = "portal"
    EXTRACT = "extract"


class WarehouseNotFoundError(RuntimeError):
    """No setting says where the warehouse is."""


def var_dir() -> Path:
    """Folder of everything this project writes (``VAR_DIR``, by default ``var/`` of the checkout)."""
    return Path(os.environ.get("VAR_DIR") or REPOSITORY / "var").resolve()


def _secret_from_file(name: str) -> str | None:
    """Value of the environment variable ``name``, or the content of the file named by ``<name>_FILE``."""
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return None


def warehouse_url(role: Role) -> URL:
    """Return the SQLAlchemy URL (driver psycopg 3) that connects as ``role``.

    Raises ``WarehouseNotFoundError`` when no setting names a warehouse.
    """
    if own := _secret_from_file(f"WAREHOUSE_{role.name}_URL"):
        return make_url(own).set(drivername="postgresql+psycopg")
    if shared := _secret_from_file("WAREHOUSE_URL"):
        url = make_url(shared).set(drivername="postgresql+psycopg")
        if role is Role.OWNER:
            return url
        options = f"{url.query.get('options', '')} -c role={role.value}".strip()
        return url.update_query_dict({"options": options})
    place = var_dir() / "postgres" / "warehouse.json"
    if not place.exists():
        raise WarehouseNotFoundError(
            f"no warehouse: set WAREHOUSE_URL, or start the embedded one with `make db` ({place} does not exist)"
        )
    found = json.loads(place.read_text(encoding="utf-8"))
    login = found["roles"][role.value]
    return URL.create(
        "postgresql+psycopg",
        username=login["user"],
        password=login["password"],
        host=found["host"],
        port=found["port"],
        database=found["database"],
    )


def connect(role: Role) -> psycopg.Connection:
    """Open a psycopg connection as ``role``; the caller closes it (use it as a context manager)."""
    url = warehouse_url(role)
    arguments: dict[str, Any] = {
        **url.query,
        **url.translate_connect_args(username="user", database="dbname"),
        "application_name": f"chargeatlarge-{role.value}",
        "connect_timeout": 10,
    }
    connection = psycopg.connect(**arguments)
    if role in (Role.INGEST, Role.REGISTRAR):
        # A writer that hangs would hold back the cut-off of every transformation.
        connection.execute("set idle_in_transaction_session_timeout = '10min'")
        connection.commit()
    return connection
