{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with daily as (

    select * from {{ ref('int_feed__unmapped_daily') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

words as (

    select
        cpo_key,
        status_profile,
        source_word,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        sum(change_count)::integer as change_count
    from daily
    group by cpo_key, status_profile, source_word

),

-- Looked up only for feeds that ever used such a word.
present as (

    select
        services.feed_key::integer as cpo_key,
        latest.status_profile,
        lower(latest.status_word) as source_word,
        count(*)::integer as evse_count
    from services
    cross join lateral (
        select changes.status_profile, changes.status_word
        from changes
        where changes.evse_key = services.evse_key
        order by changes.observed_at_exact desc, changes.change_key desc
        limit 1
    ) as latest
    where services.feed_key in (select words.cpo_key from words)
    group by 1, 2, 3

)

select
    words.cpo_key,
    words.status_profile,
    words.source_word,
    words.first_seen_at,
    words.last_seen_at,
    words.change_count,
    coalesce(present.evse_count, 0) as evse_count
from words
left join present
    on present.cpo_key = words.cpo_key
        and present.status_profile = words.status_profile
        and present.source_word = words.source_word
