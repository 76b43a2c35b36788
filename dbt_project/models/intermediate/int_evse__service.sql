with connectors as (

    select * from {{ ref('int_connector__current') }}

),

changes as (

    select * from {{ ref('stg_status_change') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

feeds as (

    select * from {{ ref('stg_feed') }}

),

-- An EVSE's own description is that of its latest described connector, listed ones first.
described as (

    select distinct on (evse_key)
        evse_key,
        feed_key,
        site_key,
        charger_key,
        evse_id,
        emi3_id,
        time_zone,
        commissioned_on
    from connectors
    order by evse_key, is_listed desc, valid_from desc, asset_version_key desc

),

first_seen as (

    select
        changes.evse_key,
        min(changes.observed_at) as observed_at
    from changes
    left join meanings
        on meanings.status_profile = changes.status_profile
            and meanings.source_word = lower(changes.status_word)
            and changes.observed_at >= meanings.valid_from
            and changes.observed_at < meanings.valid_until
    where changes.status_word is not null
        and coalesce(meanings.status, 'unknown') not in ('planned', 'removed')
    group by changes.evse_key

),

in_service as (

    select
        described.*,
        feeds.ended_at,
        coalesce(
            described.commissioned_on::timestamp at time zone described.time_zone,
            first_seen.observed_at
        ) as in_service_from
    from described
    inner join feeds on feeds.feed_key = described.feed_key
    left join first_seen on first_seen.evse_key = described.evse_key

)

select * from in_service
