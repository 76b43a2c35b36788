{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_feed_days() }}",
    indexes=[{'columns': ['cpo_key', 'utc_date']}],
) }}

with touched as (

    select * from {{ ref('int_feed__touched_days') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

unmapped as (

    select
        touched.cpo_key,
        touched.utc_date,
        changes.status_profile,
        lower(changes.status_word) as source_word,
        min(changes.observed_at) as first_seen_at,
        max(changes.observed_at) as last_seen_at,
        count(*)::integer as change_count
    from touched
    inner join services on services.feed_key = touched.cpo_key
    inner join changes
        on changes.evse_key = services.evse_key
            and changes.observed_at_exact >= touched.day_from
            and changes.observed_at_exact < touched.day_until
    left join meanings
        on meanings.status_profile = changes.status_profile
            and meanings.source_word = lower(changes.status_word)
            and changes.observed_at >= meanings.valid_from
            and changes.observed_at < meanings.valid_until
    where changes.status_word is not null and meanings.status is null
    group by 1, 2, 3, 4

)

select * from unmapped
