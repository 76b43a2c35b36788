"""Alembic environment: connects as the owner and keeps its version table in schema ``raw``."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

from warehouse.connection import Role, warehouse_url

engine = create_engine(warehouse_url(Role.OWNER))
with engine.connect() as connection:
    # One migration at a time: a second one waits here and then finds nothing to do.
    connection.execute(text("select pg_advisory_lock(hashtext('chargeatlarge migrations'))"))
    connection.execute(text("create schema if not exists raw"))
    connection.commit()
    context.configure(connection=connection, version_table_schema="raw")
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(text("select pg_advisory_unlock(hashtext('chargeatlarge migrations'))"))
    connection.commit()
engine.dispose()
