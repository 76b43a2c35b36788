{{ config(alias='evse_status') }}

with latest as (

    select * from {{ source('raw', 'evse_latest') }}

),

contacts as (

    select * from {{ source('raw', 'feed_contact') }}

),

feeds as (

    select * from {{ source('raw', 'feed') }}

),

lives as (

    select * from {{ source('raw', 'feed_life') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

sites as (

    select * from {{ ref('dim_site') }}

),

life as (

    select
        feeds.feed_key,
        feeds.cpo_name,
        feeds.liveness_seconds,
        lives.alive_from,
        lives.complete_from,
        lives.alive_until,
        -- A feed that only hands over files has no life: then it is looked for.
        coalesce(
            lives.last_contact_at,
            (
                select max(contacts.contact_until)
                from contacts
                where contacts.feed_key = feeds.feed_key and contacts.outcome in ('complete', 'alive')
            )
        ) as last_contact_at
    from feeds
    left join lives on lives.feed_key = feeds.feed_key

)

select
    latest.evse_key,
    evses.evse_id,
    life.cpo_name,
    sites.site_id,
    sites.site_name,
    sites.address,
    sites.suburb,
    sites.postcode,
    sites.state,
    sites.latitude,
    sites.longitude,
    case
        when latest.status_word is null then 'missing'
        else coalesce(meanings.status, 'unknown')
    end as status,
    latest.observed_at as status_since,
    life.last_contact_at,
    case
        -- Nothing has been heard of this EVSE since contact was lost, and no complete contact told of it.
        when latest.received_at < life.alive_from and life.complete_from is null then latest.observed_at
        else coalesce(life.alive_until, life.last_contact_at + make_interval(secs => life.liveness_seconds))
    end as known_until
from latest
inner join life on life.feed_key = latest.feed_key
inner join evses on evses.evse_key = latest.evse_key
inner join sites on sites.site_key = evses.site_key
left join meanings
    on meanings.status_profile = latest.status_profile
        and meanings.source_word = lower(latest.status_word)
        and latest.observed_at >= meanings.valid_from
        and latest.observed_at < meanings.valid_until
