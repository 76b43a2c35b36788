"""A throw-away Postgres for the whole session, and freshly migrated warehouses in it.

* ``postgres``: the server (session).
* ``warehouse``: a new, migrated, empty warehouse for one test; yields its owner's URL, which is also in
  ``WAREHOUSE_URL`` meanwhile.
* ``module_warehouse``: the same for all tests of one file. Use one of the two in a file: each sets the variable.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from stack.databases import OWNER, ensure_owner, give_logins, migrate
from stack.identity import identity
from stack.postgres import EmbeddedPostgres
from warehouse.connection import Role, var_dir

# Everything that is written is written below var/.
set_hypothesis_home_dir(var_dir() / "cache" / "hypothesis")

MIGRATED = "migrated"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running Postgres of its own, removed at the end; data may be lost at a crash, so it is quick."""
    parent = var_dir() / "test"
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
    # Root's server runs as another account, which must get in.
    folder.chmod(0o711)
    (folder / "session").write_text(f"{os.getpid()} {identity(os.getpid())}", encoding="utf-8")
    # Two invocations of dbt must not share a folder.
    os.environ["DBT_DIR"] = str(parent / f"dbt-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}")
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB"}
    server = EmbeddedPostgres(folder, settings=quick)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def migrated_database(postgres: EmbeddedPostgres) -> str:
    """Name of a migrated, empty database to copy from; do not write to it."""
    ensure_owner(postgres)
    postgres.create_database(MIGRATED, owner=OWNER)
    with _environment(WAREHOUSE_URL=postgres.url(MIGRATED, OWNER)):
        migrate()
    give_logins(postgres)
    return MIGRATED


@pytest.fixture
def warehouse(postgres: EmbeddedPostgres, migrated_database: str) -> Iterator[str]:
    """Owner's URL of a new, migrated, empty warehouse; ``WAREHOUSE_URL`` is set to it."""
    with _copy_of(postgres, migrated_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_warehouse(postgres: EmbeddedPostgres, migrated_database: str) -> Iterator[str]:
    """Like ``warehouse``, shared by the tests of one file."""
    with _copy_of(postgres, migrated_database) as url:
        yield url


@contextmanager
def _copy_of(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"warehouse_{next(_numbers)}"
    server.create_database(name, owner=OWNER, template=template)
    url = server.url(name, OWNER)
    try:
        with _environment(WAREHOUSE_URL=url):
            yield url
    finally:
        server.drop_database(name)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables, and take away every other one that says where a warehouse is."""
    others = [f"WAREHOUSE_{role.name}_URL{ending}" for role in Role for ending in ("", "_FILE")]
    touched = {*variables, "WAREHOUSE_URL_FILE", *others}
    before = {name: os.environ[name] for name in touched if name in os.environ}
    for name in touched:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in touched:
            os.environ.pop(name, None)
        os.environ.update(before)


def _remove_leftovers(parent: Path) -> None:
    """Remove servers of test runs that were killed."""
    for folder in parent.glob("postgres-*"):
        try:
            pid, _, started = (folder / "session").read_text(encoding="utf-8").partition(" ")
        except FileNotFoundError:
            continue
        if identity(int(pid)) != started:
            EmbeddedPostgres(folder).remove()
            shutil.rmtree(folder, ignore_errors=True)
