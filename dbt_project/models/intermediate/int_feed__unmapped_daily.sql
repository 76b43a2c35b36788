{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_feed_days() }}",
    indexes=[{'columns': ['cpo_key', 'utc_date']}],
) }}

with changes as (

    {{ changes_of_touched_feed_days() }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

unmapped as (

    select
        changes.feed_key::integer as cpo_key,
        changes.utc_date,
        changes.status_profile,
        lower(changes.status_word) as source_word,
        min(changes.observed_at) as first_seen_at,
        max(changes.observed_at) as last_seen_at,
        count(*)::integer as change_count
    from changes
    left join meanings
        on meanings.status_profile = changes.status_profile
            and meanings.source_word = lower(changes.status_word)
            and changes.observed_at >= meanings.valid_from
            and changes.observed_at < meanings.valid_until
    where changes.status_word is not null and meanings.status is null
    group by 1, 2, 3, 4

)

select * from unmapped
