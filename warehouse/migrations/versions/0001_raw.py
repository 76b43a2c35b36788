"""Roles, schemas and the raw tables.

Raw keeps what was learnt, as it was learnt: changes, contact, assets, quarantine. Nothing in it is ever updated
in place, but for ``feed`` (settings in force), ``evse_latest`` (the collector's memory) and ``quarantine`` (last seen, resolved).
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

ROLES = ("ingest", "transform", "analyst", "portal", "extract")

TABLES = """
create table raw.feed (
    feed_key smallint generated always as identity primary key,
    feed_id text not null unique,
    cpo_id text not null,
    cpo_name text not null,
    kind text not null,
    protocol_version text,
    status_profile text not null,
    poll_seconds integer check (poll_seconds > 0),
    liveness_seconds integer not null check (liveness_seconds > 0),
    ended_at timestamptz,
    settings_changed_at timestamptz
);
comment on table raw.feed is 'Feed registry: the settings in force of each feed, from config/cpos/.';
comment on column raw.feed.settings_changed_at is 'When a setting that moves time (liveness, end) last changed; null: never.';

create table raw.feed_profile (
    feed_key smallint not null references raw.feed,
    status_profile text not null,
    primary key (feed_key, status_profile)
);
comment on table raw.feed_profile is 'The status profiles that changes of a feed were ever written under.';

create table raw.site (
    site_key integer generated always as identity primary key,
    feed_key smallint not null references raw.feed,
    site_ref text not null,
    unique (feed_key, site_ref)
);
create table raw.charger (
    charger_key integer generated always as identity primary key,
    feed_key smallint not null references raw.feed,
    charger_ref text not null,
    unique (feed_key, charger_ref)
);
create table raw.evse (
    evse_key integer generated always as identity primary key,
    feed_key smallint not null references raw.feed,
    evse_ref text not null,
    unique (feed_key, evse_ref)
);
create table raw.connector (
    connector_key integer generated always as identity primary key,
    evse_key integer not null references raw.evse,
    connector_ref text not null,
    unique (evse_key, connector_ref)
);
comment on table raw.evse is 'Registry of compact keys. evse_ref is the identity within the feed, case-folded.';

create table raw.asset_version (
    asset_version_key bigint generated always as identity primary key,
    feed_key smallint not null references raw.feed,
    site_key integer not null references raw.site,
    charger_key integer not null references raw.charger,
    evse_key integer not null references raw.evse,
    connector_key integer not null references raw.connector,
    valid_from timestamptz not null,
    is_listed boolean not null default true,
    site_id text not null,
    site_name text,
    address text,
    suburb text,
    postcode text,
    state text,
    country text,
    latitude double precision,
    longitude double precision,
    time_zone text not null,
    charger_id text not null,
    evse_id text not null,
    emi3_id text,
    connector_id text not null,
    connector_standard text,
    power_kw numeric(9, 3),
    commissioned_on date,
    attributes jsonb not null default '{}',
    content_sha256 bytea not null,
    received_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    unique (connector_key, valid_from, content_sha256)
);
comment on table raw.asset_version is 'One row per connector and version of its description (with that of its EVSE, charger and site). In force from valid_from to the next version.';
create index on raw.asset_version (recorded_at);

create table raw.status_change (
    evse_key integer not null,
    observed_at timestamptz not null,
    change_key bigint generated always as identity,
    feed_key smallint not null,
    status_word text,
    status_profile text not null,
    received_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    source_updated_at timestamptz,
    unique nulls not distinct (evse_key, observed_at, status_word)
) partition by range (observed_at);
comment on table raw.status_change is 'What an EVSE became, and when. status_word is the source''s own word; null: it was absent from a complete contact.';
create index on raw.status_change (recorded_at);

create table raw.feed_contact (
    feed_key smallint not null,
    contact_from timestamptz not null,
    contact_until timestamptz not null,
    contact_key bigint generated always as identity,
    outcome text not null check (outcome in ('complete', 'alive', 'failed')),
    evse_count integer,
    body_sha256 bytea,
    detail text,
    received_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    check (contact_from <= contact_until),
    unique (feed_key, contact_from, contact_until, outcome)
) partition by range (contact_from);
comment on table raw.feed_contact is 'When a feed was asked or held, and whether it answered in full. A poll is an instant, a stream an interval.';
create index on raw.feed_contact (recorded_at);

create table raw.quarantine (
    quarantine_key bigint generated always as identity primary key,
    feed_key smallint not null references raw.feed,
    source text not null,
    record_ref text not null,
    field text,
    reason text not null,
    payload text not null,
    payload_sha256 bytea not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    unique nulls not distinct (feed_key, source, record_ref, field, payload_sha256)
);
comment on table raw.quarantine is 'Records that could not be taken, whole, with the place they came from and why.';

create table raw.evse_latest (
    evse_key integer primary key references raw.evse,
    feed_key smallint not null references raw.feed,
    status_word text,
    status_profile text not null,
    observed_at timestamptz not null,
    received_at timestamptz not null
);
create index on raw.evse_latest (feed_key);
comment on table raw.evse_latest is 'The latest change of each EVSE: the collector''s memory, and what the live portal reads.';
"""

FUNCTIONS = """
create function raw.ensure_partitions(first_at timestamptz, last_at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog as $$
declare
    month_start date := date_trunc('month', first_at at time zone 'UTC')::date;
    part text;
    parent text;
begin
    if first_at < '2000-01-01' or last_at >= '2100-01-01' then
        raise exception 'rows from % to %: a clock gone wrong', first_at, last_at;
    end if;
    while month_start <= last_at at time zone 'UTC' loop
        foreach parent in array array['status_change', 'feed_contact'] loop
            part := parent || to_char(month_start, '"_y"YYYY"m"MM');
            if to_regclass('raw.' || part) is null then
                perform pg_advisory_xact_lock(hashtext('raw.ensure_partitions'));
                if to_regclass('raw.' || part) is null then
                    execute format(
                        'create table raw.%I partition of raw.%I for values from (%L) to (%L)',
                        part, parent,
                        to_char(month_start, 'YYYY-MM-DD') || ' 00:00:00+00',
                        to_char(month_start + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00'
                    );
                end if;
            end if;
        end loop;
        month_start := month_start + interval '1 month';
    end loop;
end
$$;
comment on function raw.ensure_partitions is 'Create the monthly partitions that rows from first_at to last_at need.';

create function raw.settled_at() returns timestamptz
language sql security definer set search_path = pg_catalog as $$
    -- recorded_at is the start of the storing transaction: before the oldest one still open, all is visible.
    select least(now(), min(xact_start))
    from pg_stat_activity
    where datname = current_database()
        and pid <> pg_backend_pid()
        and xact_start is not null
        and (usename = 'ingest' or application_name = 'chargeatlarge-ingest')
$$;
comment on function raw.settled_at is 'The latest instant such that every row recorded until then is visible. Prepared transactions are not used here.';

create view raw.observation as
select
    change.evse_key,
    contact.contact_from as observed_at,
    change.status_word,
    change.status_profile,
    change.observed_at as status_since,
    contact.contact_key
from raw.feed_contact as contact
inner join raw.evse as evse on evse.feed_key = contact.feed_key
cross join lateral (
    select earlier.*
    from raw.status_change as earlier
    where earlier.evse_key = evse.evse_key and earlier.observed_at <= contact.contact_from
    order by earlier.observed_at desc, earlier.change_key desc
    limit 1
) as change
where contact.outcome = 'complete' and change.status_word is not null
union all
select
    change.evse_key,
    change.observed_at,
    change.status_word,
    change.status_profile,
    change.observed_at as status_since,
    null as contact_key
from raw.status_change as change
where change.status_word is not null
    and not exists (
        select from raw.feed_contact as contact
        where contact.feed_key = change.feed_key
            and contact.contact_from = change.observed_at
            and contact.outcome = 'complete'
    );
comment on view raw.observation is 'What was known of each EVSE at each complete contact, and each change told between them: the polls, listed again.';
"""

STATE = """
comment on schema state is 'What the last finished transformation left behind; written in one transaction at its end';
create table state.transform_run (
    run_key integer generated always as identity primary key,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    as_of timestamptz not null,
    is_full_refresh boolean not null,
    code_sha256 text not null
);
create table state.model_run (
    run_key integer not null references state.transform_run,
    model text not null,
    status text not null,
    seconds double precision not null,
    row_count bigint,
    primary key (run_key, model)
);
create table state.applied_island (
    feed_key smallint not null,
    alive_from timestamptz not null,
    complete_from timestamptz,
    alive_until timestamptz not null,
    primary key (feed_key, alive_from)
);
alter table state.transform_run owner to transform;
alter table state.model_run owner to transform;
alter table state.applied_island owner to transform;
"""

GRANTS = """
grant usage on schema raw to ingest, transform;
grant select, insert on all tables in schema raw to ingest;
grant update on raw.feed, raw.evse_latest, raw.quarantine to ingest;
grant usage on all sequences in schema raw to ingest;
revoke execute on function raw.ensure_partitions from public;
grant execute on function raw.ensure_partitions to ingest;
grant select on all tables in schema raw to transform;
revoke execute on function raw.settled_at from public;
grant execute on function raw.settled_at to transform;
alter default privileges in schema raw grant select, insert on tables to ingest;
alter default privileges in schema raw grant select on tables to transform;
"""


def upgrade() -> None:
    for role in ROLES:
        op.execute(
            f"do $$ begin create role {role} nologin; exception when duplicate_object or unique_violation then null; end $$"
        )
        op.execute(f"grant {role} to current_user")
    op.execute("revoke create on schema public from public")
    op.execute("do $$ begin execute format('revoke all on database %I from public', current_database()); end $$")
    op.execute(
        "do $$ begin execute format('grant connect on database %I to ingest, transform, analyst, portal, extract',"
        " current_database()); end $$"
    )
    op.execute(
        "do $$ begin execute format('grant temporary on database %I to ingest, transform', current_database()); end $$"
    )
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute(GRANTS)
    # settled_at looks at other roles' transactions; its owner may be an ordinary login of a managed server.
    op.execute(
        "do $$ begin grant pg_read_all_stats to current_user; exception when insufficient_privilege then"
        " raise notice 'without pg_read_all_stats all roles must be used through one login (WAREHOUSE_URL)'; end $$"
    )
    for schema in ("state", "staging", "intermediate", "marts", "live"):
        op.execute(f"create schema {schema} authorization transform")
    op.execute(STATE)
    op.execute("grant usage on schema marts to analyst, extract")
    op.execute("grant usage on schema live to portal, analyst")
    op.execute("alter default privileges for role transform in schema marts grant select on tables to analyst, extract")
    op.execute("alter default privileges for role transform in schema live grant select on tables to portal, analyst")


def downgrade() -> None:
    raise RuntimeError("raw data is never dropped by a migration: restore a backup, or drop the database by hand")
