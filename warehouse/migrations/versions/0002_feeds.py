"""What feeds other than polls and files need: a life, documents, receipts, access.

``raw.feed_life``, ``raw.stream_mark`` and ``raw.ocpi_location`` are the collector's memory, like ``raw.evse_latest``: updated in place, derived from what was received.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

CONTACT = """
alter table raw.feed_contact drop constraint feed_contact_outcome_check;
alter table raw.feed_contact add constraint feed_contact_outcome_check
    check (outcome in ('complete', 'alive', 'failed', 'lost'));
comment on column raw.feed_contact.outcome is
    'complete: told the state of every EVSE of the feed; alive: the feed answered, no more; failed: asked, and not answered in full; '
    'lost: messages of a stream may have been lost in this stretch, so that silence in it says nothing.';
create index on raw.status_change (evse_key, observed_at) where status_word is null;
create index on raw.feed_contact (feed_key, contact_from) where outcome = 'lost';
create index on raw.feed_contact (feed_key, contact_from) where outcome = 'complete';
"""

TABLES = """
alter table raw.feed add column registered_at timestamptz not null default now();
comment on column raw.feed.registered_at is 'When something first collected from the feed, or first called for it.';

create table raw.feed_life (
    feed_key smallint primary key references raw.feed,
    alive_from timestamptz,
    complete_from timestamptz,
    alive_until timestamptz,
    last_contact_at timestamptz,
    reconcile_wanted_at timestamptz,
    check ((alive_from is null) = (alive_until is null) and (alive_from is null) = (last_contact_at is null))
);
comment on table raw.feed_life is 'The present island of contact of each feed: the collector''s memory. It decides only whether a word that is told again is stored again.';
comment on column raw.feed_life.reconcile_wanted_at is 'When somebody last asked for a full list: a receiver that was away, a sender that registered anew.';

alter table raw.evse_latest add column retold jsonb not null default '[]';
comment on column raw.evse_latest.retold is 'The last times at which a word was told that held already: [observed_at, word, received_at], times in microseconds since 1970. When a message comes late, they say until when it held.';
create table raw.stream_mark (
    feed_key smallint primary key references raw.feed,
    held_until timestamptz not null,
    things bytea not null,
    event_id text not null
);
comment on table raw.stream_mark is 'Where the collector of a stream stopped writing: the next one goes on right there.';
comment on column raw.stream_mark.things is 'The last things told that were written: 8 bytes of a hash and 8 of the time of receipt in microseconds, each.';

create table raw.ocpi_location (
    feed_key smallint not null references raw.feed,
    party text not null,
    location_ref text not null,
    document jsonb not null,
    received_at timestamptz not null,
    primary key (feed_key, party, location_ref)
);
comment on table raw.ocpi_location is 'Each OCPI Location of a pushing party as it stands after all PUTs and PATCHes: what PATCH merges into and GET answers.';

create table raw.push_receipt (
    feed_key smallint not null references raw.feed,
    idempotency_key text not null,
    request_sha256 bytea not null,
    response jsonb not null,
    received_at timestamptz not null,
    primary key (feed_key, idempotency_key)
);
comment on table raw.push_receipt is 'Answers to batches that were pushed with an idempotency key: the same key gets the same answer.';

create table raw.file_receipt (
    feed_key smallint not null references raw.feed,
    path text not null,
    content_sha256 bytea not null,
    modified_at timestamptz not null,
    byte_count bigint not null,
    observed_at timestamptz not null,
    outcome text not null check (outcome in ('taken', 'repeated', 'refused')),
    detail text,
    received_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    primary key (feed_key, path, content_sha256, modified_at)
);
comment on table raw.file_receipt is 'Files that a feed dropped, each once: taken, repeated (the content was taken before), or refused with the reason.';
comment on column raw.file_receipt.observed_at is 'The time that the file speaks of; where each record has its own, when the file was last modified.';
create index on raw.file_receipt (feed_key, content_sha256);

alter table raw.quarantine drop constraint quarantine_feed_key_source_record_ref_field_payload_sha256_key;
alter table raw.quarantine add column context text;
alter table raw.quarantine add column occurrence integer not null default 1;
alter table raw.quarantine add column is_from_poll boolean not null default false;
alter table raw.quarantine add column gone_at timestamptz;
alter table raw.quarantine add column resolved_at timestamptz;
alter table raw.quarantine add column resolution text;
alter table raw.quarantine add constraint quarantine_is_known_once
    unique nulls not distinct (feed_key, source, record_ref, field, payload_sha256, occurrence);
create index on raw.quarantine (feed_key, source, record_ref) where gone_at is null;
comment on column raw.quarantine.context is 'What stood around the record and is needed to read it again: as JSON, its site without the other EVSEs; null: nothing.';
comment on column raw.quarantine.occurrence is 'Counts the stretches in which the same payload stood in the same place, with another between them.';
comment on column raw.quarantine.gone_at is 'The first full list that did not hold the record like this any more; null: it still stands there, or was told only once.';
comment on column raw.quarantine.resolution is 'replayed: the record was read again and went in; dismissed: a person said that nothing is to be done.';
"""

STATE = """
delete from state.applied_island;
alter table state.applied_island add column heard_from timestamptz not null;
create table state.applied_lifeline (
    feed_key smallint not null,
    kind text not null,
    line_from timestamptz not null,
    complete_from timestamptz,
    line_until timestamptz not null,
    primary key (feed_key, kind, line_from)
);
alter table state.applied_lifeline owner to transform;
"""

ACCESS = """
create schema access;
comment on schema access is 'Who may send to the receiver, and with what we ask others. Nobody but ingestion reads it.';
create table access.sender_token (
    token_sha256 bytea primary key,
    feed_id text not null,
    purpose text not null check (purpose in ('register', 'send')),
    created_at timestamptz not null default now(),
    valid_until timestamptz,
    last_used_at timestamptz
);
comment on table access.sender_token is 'SHA-256 of the tokens that a CPO sends us; long random texts, so no salt. valid_until null: for good; two may be valid while one is rotated.';
create table access.partner (
    feed_id text primary key,
    version text not null,
    versions_url text not null,
    token_encrypted bytea not null,
    roles jsonb not null default '[]',
    endpoints jsonb not null default '{}',
    registered_at timestamptz not null default now()
);
comment on table access.partner is 'The other side of an OCPI registration: where it is and, encrypted by the key of secret CREDENTIALS_KEY, with what token we ask it.';
grant usage on schema access to ingest;
grant select, insert, update, delete on all tables in schema access to ingest;
"""

GRANTS = """
grant select, insert on raw.feed_life, raw.stream_mark, raw.ocpi_location, raw.push_receipt, raw.file_receipt to ingest;
grant update on raw.feed_life, raw.stream_mark, raw.ocpi_location to ingest;
grant delete on raw.ocpi_location, raw.push_receipt to ingest;
grant select on raw.feed_life, raw.file_receipt, raw.quarantine to transform;
"""


def upgrade() -> None:
    op.execute(CONTACT)
    op.execute(TABLES)
    op.execute(STATE)
    op.execute(ACCESS)
    op.execute(GRANTS)


def downgrade() -> None:
    raise RuntimeError("raw data is never dropped by a migration: restore a backup, or drop the database by hand")
