{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_days() }}",
    indexes=[{'columns': ['evse_key', 'span_from'], 'unique': true}, {'columns': ['evse_key', 'local_date']}],
) }}

with touched as (

    select * from {{ ref('int_evse__touched_days') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

-- Read by index for each day: it must not be copied first.
changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

islands as (

    select * from {{ ref('int_feed__contact_islands') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

days as (

    select
        touched.evse_key,
        touched.local_date,
        services.feed_key,
        services.in_service_from,
        services.ended_at,
        touched.local_date::timestamp at time zone services.time_zone as day_from,
        (touched.local_date + 1)::timestamp at time zone services.time_zone as day_until
    from touched
    inner join services on services.evse_key = touched.evse_key

),

windows as (

    select
        evse_key,
        local_date,
        feed_key,
        greatest(day_from, in_service_from) as window_from,
        least(day_until, {{ as_of() }}, ended_at) as window_until
    from days

),

open_windows as (

    select * from windows
    where window_from < window_until

),

-- What was in force when the window opens: always one row, without a change when nothing was ever told.
opening as (

    select
        open_windows.evse_key,
        open_windows.local_date,
        open_windows.feed_key,
        open_windows.window_from as held_from,
        open_windows.window_until,
        earlier.change_key,
        earlier.observed_at,
        earlier.observed_at_exact,
        earlier.status_word,
        earlier.status_profile
    from open_windows
    left join lateral (
        select changes.*
        from changes
        where changes.evse_key = open_windows.evse_key
            and changes.observed_at_exact < open_windows.window_from + interval '1 second'
        order by changes.observed_at_exact desc, changes.change_key desc
        limit 1
    ) as earlier on true

),

told_within as (

    select
        open_windows.evse_key,
        open_windows.local_date,
        open_windows.feed_key,
        changes.observed_at as held_from,
        open_windows.window_until,
        changes.change_key,
        changes.observed_at,
        changes.observed_at_exact,
        changes.status_word,
        changes.status_profile
    from open_windows
    inner join changes
        on changes.evse_key = open_windows.evse_key
            and changes.observed_at_exact >= open_windows.window_from + interval '1 second'
            and changes.observed_at_exact < open_windows.window_until

),

told as (

    select * from opening
    union all
    select * from told_within

),

with_end as (

    select
        *,
        coalesce(
            lead(held_from) over (
                partition by evse_key, local_date
                -- Of two changes in one second the later one holds; of two at one instant the one learnt later.
                order by held_from, observed_at_exact nulls first, change_key nulls first
            ),
            window_until
        ) as held_until
    from told

),

stretches as (

    select * from with_end
    where held_from < held_until

),

-- A charger that was removed and then is not listed any more is still removed, not missing.
with_word as (

    select
        stretches.evse_key,
        stretches.local_date,
        stretches.feed_key,
        stretches.held_from,
        stretches.held_until,
        stretches.status_word is null as is_absent,
        coalesce(worded.change_key, stretches.change_key) as change_key,
        coalesce(worded.observed_at, stretches.observed_at) as observed_at,
        coalesce(worded.observed_at_exact, stretches.observed_at_exact) as observed_at_exact,
        coalesce(worded.status_word, stretches.status_word) as status_word,
        coalesce(worded.status_profile, stretches.status_profile) as status_profile
    from stretches
    left join lateral (
        select changes.*
        from changes
        where changes.evse_key = stretches.evse_key
            and changes.observed_at_exact <= stretches.observed_at_exact
            and changes.status_word is not null
        order by changes.observed_at_exact desc, changes.change_key desc
        limit 1
    ) as worded on stretches.status_word is null

),

held as (

    select
        with_word.evse_key,
        with_word.local_date,
        with_word.feed_key,
        with_word.change_key,
        with_word.observed_at,
        with_word.observed_at_exact,
        with_word.held_from,
        with_word.held_until,
        with_word.status_word,
        case
            when meanings.status = 'removed' then 'removed'
            when with_word.is_absent then 'missing'
            else coalesce(meanings.status, 'unknown')
        end as status
    from with_word
    left join meanings
        on meanings.status_profile = with_word.status_profile
            and meanings.source_word = lower(with_word.status_word)
            and with_word.observed_at >= meanings.valid_from
            and with_word.observed_at < meanings.valid_until

),

-- Known from the own observation if it lies in the island, else from the island's first complete contact.
known as (

    select
        held.*,
        case
            -- To the instant: what was told in the second of a loss, and before it, does not outlast it.
            when held.observed_at_exact >= islands.heard_from then held.held_from
            -- Without a complete contact it stays missing: greatest() alone would pass over a null.
            when islands.complete_from is not null then greatest(held.held_from, islands.complete_from)
        end as known_from,
        least(held.held_until, islands.alive_until) as known_until
    from held
    inner join islands
        on islands.feed_key = held.feed_key
            and islands.alive_from < held.held_until
            and islands.alive_until > held.held_from
    where held.status not in ('missing', 'removed')

),

known_spans as (

    select
        *,
        true as is_known
    from known
    where known_from < known_until

),

-- Out of service until it is seen again, in contact or not.
removed_spans as (

    select
        held.*,
        held.held_from as known_from,
        held.held_until as known_until,
        true as is_known
    from held
    where held.status = 'removed'

),

-- Closes every held stretch, so that what follows its last known span is seen.
ends as (

    select
        held.*,
        held.held_until as known_from,
        held.held_until as known_until,
        false as is_known
    from held

),

laid_out as (

    select * from known_spans
    union all
    select * from removed_spans
    union all
    select * from ends

),

with_gap as (

    select
        *,
        coalesce(
            lag(known_until) over (
                partition by evse_key, local_date, held_from
                order by known_from, is_known desc
            ),
            held_from
        ) as gap_from
    from laid_out

),

spans as (

    select
        evse_key,
        local_date,
        known_from as span_from,
        known_until as span_until,
        status,
        status_word,
        change_key,
        observed_at
    from with_gap
    where is_known

    union all

    select
        evse_key,
        local_date,
        gap_from,
        known_from,
        'missing',
        status_word,
        change_key,
        observed_at
    from with_gap
    where gap_from < known_from

)

select
    evse_key,
    local_date,
    span_from,
    span_until,
    extract(epoch from span_until - span_from)::integer as seconds,
    status,
    status_word,
    change_key,
    observed_at
from spans
