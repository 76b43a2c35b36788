"""The writer's longer SQL statements."""

from __future__ import annotations

TEMPORARY_TABLES = """
create temporary table if not exists incoming_asset (
    position integer, site_ref text, charger_ref text, evse_ref text, connector_ref text,
    valid_from timestamptz, document jsonb, content_sha256 bytea
) on commit delete rows;
create temporary table if not exists incoming_change (
    position bigint generated always as identity, evse_key integer, observed_at timestamptz,
    status_word text, received_at timestamptz, source_updated_at timestamptz
) on commit delete rows;
create temporary table if not exists incoming_contact (
    contact_from timestamptz, contact_until timestamptz, outcome text, evse_count integer,
    body_sha256 bytea, detail text, received_at timestamptz
) on commit delete rows;
create temporary table if not exists incoming_rejected (
    position bigint generated always as identity, source text, record_ref text, field text, reason text,
    payload text, payload_sha256 bytea, context text
) on commit delete rows;
create temporary table if not exists later_poll (
    contact_from timestamptz primary key, received_at timestamptz
) on commit delete rows;
"""

STATE_AT = """
select latest.evse_key, latest.status_word
from raw.evse_latest as latest
where latest.feed_key = %(feed_key)s and latest.observed_at <= %(at)s
union all
-- Only when an answer is written after a later one: look up what was in force then.
select latest.evse_key, earlier.status_word
from raw.evse_latest as latest
cross join lateral (
    select change.status_word
    from raw.status_change as change
    where change.evse_key = latest.evse_key and change.observed_at <= %(at)s
    order by change.observed_at desc, change.change_key desc
    limit 1
) as earlier
where latest.feed_key = %(feed_key)s and latest.observed_at > %(at)s
"""

STORED_SINCE = """
select told.evse_key, stored.observed_at, stored.status_word
from unnest(%(evse_keys)s::integer[], %(times)s::timestamptz[]) as told (evse_key, first_at)
cross join lateral (
    (
        select change.observed_at, change.status_word, change.change_key
        from raw.status_change as change
        where change.evse_key = told.evse_key and change.observed_at <= told.first_at
        order by change.observed_at desc, change.change_key desc
        limit 1
    )
    union all
    select change.observed_at, change.status_word, change.change_key
    from raw.status_change as change
    where change.evse_key = told.evse_key and change.observed_at > told.first_at
) as stored
order by told.evse_key, stored.observed_at, stored.change_key
"""

REMEMBER_RETOLD = """
update raw.evse_latest as latest set retold = told.retold::jsonb
from unnest(%(evse_keys)s::integer[], %(retold)s::text[]) as told (evse_key, retold)
where latest.evse_key = told.evse_key
"""

LIVE_ON = """
insert into raw.feed_life as known (feed_key, alive_from, complete_from, alive_until, last_contact_at)
values (
    %(feed_key)s, %(sign_from)s, case when %(is_complete)s then %(sign_from)s::timestamptz end,
    %(sign_until)s::timestamptz + make_interval(secs => %(liveness)s), %(sign_until)s
)
on conflict (feed_key) do update set
    alive_from = case
        when %(is_anew)s or known.alive_from is null or excluded.alive_from > known.alive_until then excluded.alive_from
        else known.alive_from
    end,
    complete_from = case
        when %(is_anew)s or excluded.alive_from > known.alive_until then excluded.complete_from
        else coalesce(known.complete_from, excluded.complete_from)
    end,
    alive_until = greatest(known.alive_until, excluded.alive_until),
    last_contact_at = greatest(known.last_contact_at, excluded.last_contact_at)
where known.alive_from is null or excluded.alive_from >= known.alive_from
"""

STORE_REJECTED = """
with incoming as (
    select distinct on (source, record_ref, field, payload_sha256) *
    from incoming_rejected
    order by source, record_ref, field, payload_sha256, position
),

still_there as (
    update raw.quarantine as known set
        last_seen_at = greatest(known.last_seen_at, %(at)s)
    from incoming
    where known.feed_key = %(feed_key)s
        and known.source = incoming.source
        and known.record_ref = incoming.record_ref
        and known.field is not distinct from incoming.field
        and known.payload_sha256 = incoming.payload_sha256
        and (known.gone_at is null or %(at)s < known.gone_at)
    returning incoming.position
),

added as (
    insert into raw.quarantine (
        feed_key, source, record_ref, field, reason, payload, payload_sha256, context, is_from_poll,
        first_seen_at, last_seen_at, occurrence
    )
    select
        %(feed_key)s, source, record_ref, field, reason, payload, payload_sha256, context, %(is_from_poll)s, %(at)s, %(at)s,
        1 + (
            select count(*) from raw.quarantine as before
            where before.feed_key = %(feed_key)s
                and before.source = incoming.source
                and before.record_ref = incoming.record_ref
                and before.field is not distinct from incoming.field
                and before.payload_sha256 = incoming.payload_sha256
        )
    from incoming
    where position not in (select position from still_there)
    order by position
    returning 1
)

select count(*) from added
"""

CLOSE_REJECTED = """
update raw.quarantine as known set gone_at = %(at)s
where known.feed_key = %(feed_key)s and known.is_from_poll and known.gone_at is null and known.last_seen_at < %(at)s
"""

DELETE_KNOWN_CHANGES = """
delete from incoming_change as incoming
using raw.status_change as known
where known.evse_key = incoming.evse_key
    and known.observed_at = incoming.observed_at
    and known.status_word is not distinct from incoming.status_word
"""

# Only our own polls (they have a body) told every EVSE's state themselves; in files, a contact says no more than the changes beside it.
INSERT_LATER_POLLS = """
with bounds as (
    select min(observed_at) as first_at, max(observed_at) as last_at from incoming_change
)

insert into later_poll (contact_from, received_at)
select poll.contact_from, poll.received_at
from raw.feed_contact as poll
where poll.feed_key = %(feed_key)s and poll.outcome = 'complete' and poll.body_sha256 is not null
    and poll.contact_from > (select first_at from bounds)
    and poll.contact_from <= coalesce(
        (
            select min(following.contact_from)
            from raw.feed_contact as following
            where following.feed_key = %(feed_key)s
                and following.outcome = 'complete'
                and following.body_sha256 is not null
                and following.contact_from > (select last_at from bounds)
        ),
        'infinity'
    )
on conflict do nothing
"""

REPEAT_WHAT_POLLS_TOLD = """
with followed as (
    select
        evse_key, observed_at, status_word,
        lead(observed_at) over (partition by evse_key order by observed_at, position) as next_observed_at
    from incoming_change
)

insert into incoming_change (evse_key, observed_at, status_word, received_at)
select followed.evse_key, poll.contact_from, told.status_word, poll.received_at
from followed
cross join lateral (
    select later_poll.contact_from, later_poll.received_at
    from later_poll
    where later_poll.contact_from > followed.observed_at
    order by later_poll.contact_from
    limit 1
) as poll
left join lateral (
    select change.observed_at, change.status_word
    from raw.status_change as change
    where change.evse_key = followed.evse_key and change.observed_at <= poll.contact_from
    order by change.observed_at desc, change.change_key desc
    limit 1
) as told on true
where (followed.next_observed_at is null or followed.next_observed_at > poll.contact_from)
    and (told.observed_at is null or told.observed_at <= followed.observed_at)
    and told.status_word is distinct from followed.status_word
"""

ASSET_COLUMNS = """site_id, site_name, address, suburb, postcode, state, country, latitude, longitude, time_zone, charger_id,
    evse_id, emi3_id, connector_id, connector_standard, power_kw, commissioned_on, attributes"""

INSERT_ASSETS = f"""
insert into raw.asset_version (
    feed_key, site_key, charger_key, evse_key, connector_key, valid_from, content_sha256, received_at,
    {ASSET_COLUMNS}
)
select
    %(feed_key)s, site.site_key, charger.charger_key, evse.evse_key, connector.connector_key,
    incoming.valid_from, incoming.content_sha256, %(received_at)s,
    described.site_id, described.site_name, described.address, described.suburb, described.postcode, described.state,
    described.country, described.latitude, described.longitude, described.time_zone, described.charger_id,
    described.evse_id, described.emi3_id, described.connector_id, described.connector_standard, described.power_kw,
    described.commissioned_on, described.attributes
from incoming_asset as incoming
inner join raw.site as site on site.feed_key = %(feed_key)s and site.site_ref = incoming.site_ref
inner join raw.charger as charger on charger.feed_key = %(feed_key)s and charger.charger_ref = incoming.charger_ref
inner join raw.evse as evse on evse.feed_key = %(feed_key)s and evse.evse_ref = incoming.evse_ref
inner join raw.connector as connector
    on connector.evse_key = evse.evse_key and connector.connector_ref = incoming.connector_ref
cross join lateral jsonb_to_record(incoming.document) as described (
    site_id text, site_name text, address text, suburb text, postcode text, state text, country text,
    latitude double precision, longitude double precision, time_zone text, charger_id text, evse_id text, emi3_id text,
    connector_id text, connector_standard text, power_kw numeric(9, 3), commissioned_on date, attributes jsonb
)
left join lateral (
    select version.content_sha256, version.is_listed
    from raw.asset_version as version
    where version.connector_key = connector.connector_key and version.valid_from <= incoming.valid_from
    order by version.valid_from desc, version.asset_version_key desc
    limit 1
) as in_force on true
where in_force.content_sha256 is distinct from incoming.content_sha256 or not in_force.is_listed
order by incoming.position
on conflict do nothing
"""

UNLIST_CONNECTORS = f"""
insert into raw.asset_version (
    feed_key, site_key, charger_key, evse_key, connector_key, valid_from, content_sha256, received_at, is_listed,
    {ASSET_COLUMNS}
)
select
    version.feed_key, version.site_key, version.charger_key, version.evse_key, version.connector_key,
    %(received_at)s, sha256(version.content_sha256 || 'not listed'), %(received_at)s, false,
    {ASSET_COLUMNS}
from raw.connector as connector
inner join raw.evse as evse on evse.evse_key = connector.evse_key and evse.feed_key = %(feed_key)s
inner join lateral (
    select every_version.*
    from raw.asset_version as every_version
    where every_version.connector_key = connector.connector_key
    order by every_version.valid_from desc, every_version.asset_version_key desc
    limit 1
) as version on version.is_listed and version.valid_from < %(received_at)s
where exists (select from incoming_asset as described where described.evse_ref = evse.evse_ref)
    and not exists (
        select from incoming_asset as described
        where described.evse_ref = evse.evse_ref and described.connector_ref = connector.connector_ref
    )
on conflict do nothing
"""
