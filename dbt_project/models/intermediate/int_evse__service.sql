with versions as (

    select * from {{ ref('stg_asset_version') }}

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

described as (

    {{ evse_descriptions('versions') }}

),

first_seen as (

    select
        changes.evse_key,
        min(changes.observed_at) as first_observed_at,
        min(changes.observed_at) filter (
            where coalesce(meanings.status, 'unknown') not in ('planned', 'removed')
        ) as observed_at
    from changes
    left join meanings
        on meanings.status_profile = changes.status_profile
            and meanings.source_word = lower(changes.status_word)
            and changes.observed_at >= meanings.valid_from
            and changes.observed_at < meanings.valid_until
    where changes.status_word is not null
    group by changes.evse_key

),

in_service as (

    select
        described.*,
        feeds.ended_at,
        first_seen.first_observed_at,
        coalesce(
            described.commissioned_on::timestamp at time zone described.time_zone,
            first_seen.observed_at
        ) as in_service_from
    from described
    inner join feeds on feeds.feed_key = described.feed_key
    left join first_seen on first_seen.evse_key = described.evse_key

)

select * from in_service
