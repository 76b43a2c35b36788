with versions as (

    select * from {{ ref('stg_asset_version') }}

),

changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

feeds as (

    select * from {{ ref('stg_feed') }}

),

described as (

    {{ evse_descriptions('versions') }}

),

-- Looked up by index: a first observation is found without reading what followed it.
first_seen as (

    select
        described.evse_key,
        first_word.observed_at as first_observed_at,
        first_in_service.observed_at
    from described
    left join lateral (
        select changes.observed_at
        from changes
        where changes.evse_key = described.evse_key and changes.status_word is not null
        order by changes.observed_at_exact
        limit 1
    ) as first_word on true
    left join lateral (
        select changes.observed_at
        from changes
        where changes.evse_key = described.evse_key
            and changes.status_word is not null
            and coalesce(
                (
                    select meanings.status
                    from meanings
                    where meanings.status_profile = changes.status_profile
                        and meanings.source_word = lower(changes.status_word)
                        and changes.observed_at >= meanings.valid_from
                        and changes.observed_at < meanings.valid_until
                ),
                'unknown'
            ) not in ('planned', 'removed')
        order by changes.observed_at_exact
        limit 1
    ) as first_in_service on true

),

in_service as (

    select
        described.*,
        feeds.ended_at,
        feeds.has_virtual_evses,
        first_seen.first_observed_at,
        coalesce(
            described.commissioned_on::timestamp at time zone described.time_zone,
            first_seen.observed_at
        ) as in_service_from
    from described
    inner join feeds on feeds.feed_key = described.feed_key
    inner join first_seen on first_seen.evse_key = described.evse_key

)

select * from in_service
