{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
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

absences as (

    select * from {{ ref('fct_evse_absence') }}

),

-- The first that is told of an EVSE is no change of it.
told as (

    select
        touched.cpo_key,
        touched.utc_date,
        changes.evse_key,
        changes.observed_at,
        changes.observed_at_exact,
        changes.status_word
    from touched
    inner join services on services.feed_key = touched.cpo_key
    inner join changes
        on changes.evse_key = services.evse_key
            and changes.observed_at_exact >= touched.day_from
            and changes.observed_at_exact < touched.day_until
    where services.first_observed_at < changes.observed_at

),

at_once as (

    select
        cpo_key,
        utc_date,
        observed_at,
        status_word,
        count(distinct evse_key) as told_count
    from told
    group by cpo_key, utc_date, observed_at, status_word
    having count(distinct evse_key) >= {{ var('flip_minimum_count') }}

),

-- EVSEs that the feed had told of before, without those that were absent and stayed so.
with_evses as (

    select
        at_once.*,
        (
            select count(*)
            from services
            where services.feed_key = at_once.cpo_key and services.first_observed_at < at_once.observed_at
        ) - (
            select count(*)
            from absences
            where absences.cpo_key = at_once.cpo_key
                and absences.vanished_at < at_once.observed_at
                and (absences.returned_at is null or absences.returned_at > at_once.observed_at)
        ) as evse_count
    from at_once

),

candidates as (

    select * from with_evses
    where told_count >= {{ var('flip_minimum_ratio') }} * evse_count

),

-- A word that is told again after a gap is stored, and is no change.
changed as (

    select
        candidates.cpo_key,
        candidates.utc_date,
        candidates.observed_at,
        candidates.status_word,
        candidates.evse_count,
        count(distinct told.evse_key) as changed_count
    from candidates
    inner join told
        on told.cpo_key = candidates.cpo_key
            and told.observed_at = candidates.observed_at
            and told.status_word is not distinct from candidates.status_word
    cross join lateral (
        select earlier.status_word
        from {{ ref('stg_status_change') }} as earlier
        where earlier.evse_key = told.evse_key and earlier.observed_at_exact < told.observed_at_exact
        order by earlier.observed_at_exact desc, earlier.change_key desc
        limit 1
    ) as word_before
    where word_before.status_word is distinct from told.status_word
    group by
        candidates.cpo_key,
        candidates.utc_date,
        candidates.observed_at,
        candidates.status_word,
        candidates.evse_count

),

flips as (

    select
        cpo_key,
        utc_date,
        observed_at as flipped_at,
        status_word,
        changed_count::integer as changed_count,
        evse_count::integer as evse_count
    from changed
    where changed_count >= {{ var('flip_minimum_count') }}
        and changed_count >= {{ var('flip_minimum_ratio') }} * evse_count

)

select * from flips
