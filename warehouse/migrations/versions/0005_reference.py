"""Reference files, as they were loaded: postcodes, areas, government-funded assets, and what people decided about these.

Nothing in schema ``reference`` is ever updated: the marts at a cut-off read, of each kind of file, the latest load until then. People write these
files, so the registrar's role stores them, not the collectors' one.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = """
create schema reference;
comment on schema reference is 'Reference files as they were loaded. Append-only; written by python -m reference.';

create table reference.load (
    load_key integer generated always as identity primary key,
    kind text not null,
    place text not null,
    content_sha256 text not null,
    row_count integer not null,
    loaded_by text not null,
    loaded_at timestamptz not null default now()
);
comment on table reference.load is 'One row per file that was loaded. Of each kind, the latest load until a cut-off is in force at it.';
comment on column reference.load.place is 'Where the file was found.';
comment on column reference.load.loaded_at is 'Start of the transaction that stored it, by the database''s clock.';
create index on reference.load (kind, loaded_at, load_key);

create table reference.postcode_range (
    load_key integer not null references reference.load,
    state text not null,
    first_postcode integer not null,
    last_postcode integer not null check (last_postcode >= first_postcode),
    primary key (load_key, first_postcode)
);
create table reference.required_state (
    load_key integer not null references reference.load,
    state text not null,
    primary key (load_key, state)
);
create table reference.area (
    load_key integer not null references reference.load,
    code text not null,
    name text not null,
    geometry json not null,
    primary key (load_key, code)
);
comment on table reference.area is 'Local government areas (code: ABS code), or postal areas (code and name: postcode), with their boundaries as GeoJSON.';
create table reference.located (
    load_key integer not null references reference.load,
    latitude double precision not null,
    longitude double precision not null,
    code text,
    distance_m double precision,
    primary key (load_key, latitude, longitude),
    check ((code is null) = (distance_m is null))
);
comment on table reference.located is 'In which area of a load a coordinate lies. It follows from the two alone, so it may be written at any time.';
comment on column reference.located.code is 'The area that holds the point, else the nearest one; null: none is near.';
comment on column reference.located.distance_m is '0: inside; else metres to the area.';
create table reference.lga_name (
    load_key integer not null references reference.load,
    written_name text not null,
    lga_code text not null,
    lga_name text not null,
    primary key (load_key, written_name, lga_code)
);
create table reference.funded_asset (
    load_key integer not null references reference.load,
    asset_id text not null,
    line integer not null,
    evse_id text,
    evse_port_id text,
    cpo_name text not null,
    address text,
    suburb text,
    postcode text,
    lga_code text,
    lga_name text,
    state text,
    latitude double precision,
    longitude double precision,
    coordinate_decimals integer,
    program text not null,
    round text not null,
    primary key (load_key, asset_id),
    check ((latitude is null) = (longitude is null) and (latitude is null) = (coordinate_decimals is null))
);
comment on column reference.funded_asset.asset_id is 'Made of the row''s content: it stays while the row stays as it is.';
comment on column reference.funded_asset.coordinate_decimals is 'Decimals that the finer of the two coordinates is written with.';
create table reference.cpo_name (
    load_key integer not null references reference.load,
    listed_name text not null,
    cpo_id text not null,
    primary key (load_key, listed_name)
);
create table reference.funding_decision (
    load_key integer not null references reference.load,
    asset_id text not null,
    evse_ids text[] not null,
    decided_by text not null,
    decided_at timestamptz not null,
    note text,
    primary key (load_key, asset_id)
);
comment on column reference.funding_decision.evse_ids is 'The EVSEs that the listed asset is; empty: none that we know.';
"""

# In force until a file of postcode ranges is loaded.
POSTCODES = """
insert into reference.load (kind, place, content_sha256, row_count, loaded_by, loaded_at)
values ('postcode_ranges', 'shipped with the warehouse', '', 11, 'migration', '2000-01-01 00:00:00+00');
insert into reference.postcode_range (load_key, state, first_postcode, last_postcode)
select load.load_key, shipped.*
from reference.load as load
cross join (
    values
        ('NSW', 2000, 2599), ('NSW', 2619, 2899), ('NSW', 2921, 2999),
        ('ACT', 2600, 2618), ('ACT', 2900, 2920),
        ('VIC', 3000, 3996), ('QLD', 4000, 4999), ('SA', 5000, 5799),
        ('WA', 6000, 6797), ('TAS', 7000, 7799), ('NT', 800, 899)
) as shipped;
"""

GRANTS = """
grant usage on schema reference to registrar, transform;
grant select, insert on all tables in schema reference to registrar;
grant usage on all sequences in schema reference to registrar;
grant select on all tables in schema reference to transform;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(POSTCODES)
    op.execute(GRANTS)


def downgrade() -> None:
    raise RuntimeError(
        "what was loaded is never dropped by a migration: restore a backup, or drop the database by hand"
    )
