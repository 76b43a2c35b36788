{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_touched_feed_days() }}",
    indexes=[{'columns': ['cpo_key', 'utc_date']}],
) }}

with changes as not materialized (

    {{ changes_of_touched_feed_days() }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

absences as (

    select * from {{ ref('fct_evse_absence') }}

),

-- More were told than changed: nearly all seconds are none, and are left here.
at_once as (

    select
        feed_key::integer as cpo_key,
        utc_date,
        observed_at,
        status_word,
        count(*) as told_count
    from changes
    group by 1, 2, 3, 4
    having count(*) >= {{ var('flip_minimum_count') }}

),

-- EVSEs that a feed had told of before, without those that were absent and stayed so: what came until then, less what went.
events as (

    select
        cpo_key,
        utc_date,
        observed_at,
        status_word,
        told_count,
        0 as evses,
        1 as turn
    from at_once

    union all

    select
        feed_key::integer,
        null,
        first_observed_at,
        null,
        null,
        1,
        2
    from services
    where first_observed_at is not null

    union all

    select
        cpo_key,
        null,
        vanished_at,
        null,
        null,
        -1,
        2
    from absences

    union all

    select
        cpo_key,
        null,
        returned_at,
        null,
        null,
        1,
        0
    from absences
    where returned_at is not null

),

counted as (

    select
        *,
        sum(evses) over (
            partition by cpo_key
            -- What returned in this very second is there, what was first seen or vanished in it was not there, or was, before.
            order by observed_at, turn
            rows between unbounded preceding and current row
        ) as evse_count
    from events

),

candidates as (

    select * from counted
    where told_count >= {{ var('flip_minimum_ratio') }} * evse_count

),

-- The first that is told of an EVSE is no change of it, nor is a word that is told again after a gap.
changed as (

    select
        candidates.*,
        among_them.changed_count
    from candidates
    cross join lateral (
        select count(distinct told.evse_key) as changed_count
        from {{ ref('stg_status_change') }} as told
        inner join services on services.evse_key = told.evse_key
        cross join lateral (
            select earlier.status_word
            from {{ ref('stg_status_change') }} as earlier
            where earlier.evse_key = told.evse_key and earlier.observed_at_exact < told.observed_at_exact
            order by earlier.observed_at_exact desc, earlier.change_key desc
            limit 1
        ) as word_before
        where told.feed_key = candidates.cpo_key
            and told.observed_at_exact >= candidates.observed_at
            and told.observed_at_exact < candidates.observed_at + interval '1 second'
            and told.status_word is not distinct from candidates.status_word
            and services.first_observed_at < told.observed_at
            and word_before.status_word is distinct from told.status_word
    ) as among_them

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
