"""The register of exclusions: what people enter and decide, and a role of its own that writes it.

Collectors read what strangers send: their role must not be able to approve an exclusion.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
create schema register;
comment on schema register is 'What people entered and decided; rows are only ever added.';
create table register.exclusion_version (
    exclusion_version_key bigint generated always as identity primary key,
    exclusion_id text not null,
    evse_key integer not null references raw.evse,
    excluded_from timestamptz not null,
    excluded_until timestamptz not null,
    category text not null check (category in (
        'scheduled_maintenance', 'utility_interruption', 'communication_outage', 'vehicle_fault', 'vandalism', 'natural_disaster'
    )),
    evidence text,
    entered_by text not null,
    entered_at timestamptz not null,
    decision text not null check (decision in ('pending', 'approved', 'rejected')),
    decided_by text,
    decided_at timestamptz,
    note text,
    recorded_at timestamptz not null default now(),
    check (excluded_from < excluded_until),
    check ((decision = 'pending') = (decided_by is null) and (decided_by is null) = (decided_at is null)),
    constraint approved_on_evidence_by_a_second_person
        check (decision <> 'approved' or evidence is not null and lower(decided_by) <> lower(entered_by))
);
comment on table register.exclusion_version is 'Entries of the exclusion register. One row per entry and version; the version recorded last holds.';
create index on register.exclusion_version (exclusion_id, exclusion_version_key desc);
create index on register.exclusion_version (recorded_at);
"""

# A late commit of the registrar must hold the cut-off back as one of a collector does.
SETTLED = """
create or replace function raw.settled_at() returns timestamptz
language sql security definer set search_path = pg_catalog as $$
    -- recorded_at is the start of the storing transaction: before the oldest one still open, all is visible.
    select least(now(), min(xact_start))
    from pg_stat_activity
    where datname = current_database()
        and pid <> pg_backend_pid()
        and xact_start is not null
        and (
            usename in ('ingest', 'registrar')
            or application_name in ('chargeatlarge-ingest', 'chargeatlarge-registrar')
        )
$$;
"""

GRANTS = """
grant usage on schema raw to registrar;
grant select on raw.feed, raw.asset_version to registrar;
grant usage on schema register to registrar, transform;
grant select, insert on register.exclusion_version to registrar;
grant select on register.exclusion_version to transform;
"""


def upgrade() -> None:
    op.execute(
        "do $$ begin create role registrar nologin; exception when duplicate_object or unique_violation then null; end $$"
    )
    op.execute("grant registrar to current_user")
    op.execute("do $$ begin execute format('grant connect on database %I to registrar', current_database()); end $$")
    op.execute(TABLES)
    op.execute(SETTLED)
    op.execute(GRANTS)


def downgrade() -> None:
    raise RuntimeError("entries are never dropped by a migration: restore a backup, or drop the database by hand")
