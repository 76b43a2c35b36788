{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook=["{{ delete_touched_days() }}", "{{ hash_rather_than_sort() }}"],
    indexes=[{'columns': ['evse_key', 'span_from'], 'unique': true}, {'columns': ['evse_key', 'local_date']}],
) }}

-- Millions of rows go through: what is carried along is narrow, and joined are small tables of whole numbers.
with periods as (

    select * from {{ ref('int_evse__touched_period') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

-- Read by index where few days are touched: it must not be copied first.
changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

islands as (

    select * from {{ ref('int_feed__contact_islands') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

windows as (

    select
        periods.evse_key,
        periods.last_date,
        services.feed_key,
        services.time_zone,
        services.has_virtual_evses,
        -- A place is where days and contact are the same.
        dense_rank() over (order by services.feed_key, services.time_zone)::integer as place_key,
        greatest(periods.first_date::timestamp at time zone services.time_zone, services.in_service_from) as window_from,
        least(
            (periods.last_date + 1)::timestamp at time zone services.time_zone, {{ as_of() }}, services.ended_at
        ) as window_until
    from periods
    inner join services on services.evse_key = periods.evse_key
    -- Days may be touched in which it is not in service any more, or at no time.
    where services.in_service_from is not null

),

open_windows as (

    select
        *,
        (window_from at time zone time_zone)::date as first_date
    from windows
    where window_from < window_until

),

-- What was in force when a window opens: always one row, without a change when nothing was ever told.
opening as (

    select
        open_windows.*,
        earlier.change_key,
        earlier.observed_at,
        earlier.observed_at_exact,
        earlier.status_word,
        earlier.status_profile,
        meanings.status,
        coalesce(meanings.is_down, false) as is_down,
        coalesce(meanings.is_occupied, false) as is_occupied
    from open_windows
    left join lateral (
        select changes.*
        from changes
        where changes.evse_key = open_windows.evse_key
            and changes.observed_at_exact < open_windows.window_from + interval '1 second'
        order by changes.observed_at_exact desc, changes.change_key desc
        limit 1
    ) as earlier on true
    left join meanings
        on meanings.status_profile = earlier.status_profile
            and meanings.source_word = lower(earlier.status_word)
            and earlier.observed_at >= meanings.valid_from
            and earlier.observed_at < meanings.valid_until

),

told_within as not materialized (

    select
        open_windows.evse_key,
        open_windows.place_key,
        open_windows.window_from,
        open_windows.has_virtual_evses,
        changes.observed_at as held_from,
        changes.observed_at_exact,
        changes.change_key,
        (changes.observed_at_exact at time zone open_windows.time_zone)::date as local_date,
        changes.status_word,
        meanings.status,
        coalesce(meanings.is_down, false) as is_down,
        coalesce(meanings.is_occupied, false) as is_occupied
    from open_windows
    inner join changes
        on changes.evse_key = open_windows.evse_key
            and changes.observed_at_exact >= open_windows.window_from + interval '1 second'
            and changes.observed_at_exact < open_windows.window_until
    left join meanings
        on meanings.status_profile = changes.status_profile
            and meanings.source_word = lower(changes.status_word)
            and changes.observed_at >= meanings.valid_from
            and changes.observed_at < meanings.valid_until

),

told as (

    select
        evse_key,
        place_key,
        window_from as held_from,
        observed_at_exact,
        change_key,
        first_date as local_date,
        status_word,
        status,
        is_down,
        is_occupied,
        false as is_end
    from opening

    union all

    select
        evse_key,
        place_key,
        held_from,
        observed_at_exact,
        change_key,
        local_date,
        status_word,
        status,
        is_down,
        is_occupied,
        false
    from told_within

    union all

    -- Where the last one ends.
    select
        evse_key,
        place_key,
        window_until,
        null,
        null,
        last_date,
        null,
        null,
        false,
        false,
        true
    from open_windows

),

followed as (

    select
        *,
        lead(held_from) over in_order as held_until,
        lead(local_date) over in_order as last_date
    from told
    window in_order as (
        -- The windows of an EVSE do not touch.
        partition by evse_key
        -- Of two changes in one second the later one holds; of two at one instant the one learnt later.
        order by held_from, observed_at_exact nulls first, change_key nulls first
    )

),

-- A status that holds over midnight is cut there.
by_date as (

    select
        evse_key,
        place_key,
        held_from,
        held_until,
        observed_at_exact,
        change_key,
        status_word,
        status,
        is_down,
        is_occupied,
        local_date + generate_series(0, last_date - local_date) as local_date
    from followed
    where not is_end and held_from < held_until

),

places as (

    select
        place_key,
        feed_key,
        time_zone,
        min(first_date) as first_date,
        max(last_date) as last_date
    from open_windows
    group by place_key, feed_key, time_zone

),

days as (

    select
        places.place_key,
        places.feed_key,
        midnight.local_time::date as local_date,
        midnight.local_time at time zone places.time_zone as day_from,
        (midnight.local_time + interval '1 day') at time zone places.time_zone as day_until
    from places
    cross join lateral generate_series(
        places.first_date::timestamp, places.last_date::timestamp, interval '1 day'
    ) as midnight (local_time)

),

islands_by_day as (

    select
        days.place_key,
        days.local_date,
        islands.*
    from days
    inner join islands
        on islands.feed_key = days.feed_key
            and islands.alive_from < days.day_until
            and islands.alive_until > days.day_from

),

absences as (

    select
        evse_key,
        change_key,
        observed_at_exact
    from opening
    where change_key is not null and status_word is null

    union all

    select
        changes.evse_key,
        changes.change_key,
        changes.observed_at_exact
    from open_windows
    inner join changes
        on changes.evse_key = open_windows.evse_key
            and changes.observed_at_exact >= open_windows.window_from + interval '1 second'
            and changes.observed_at_exact < open_windows.window_until
    where changes.status_word is null

),

-- A charger that was removed and then is not listed any more is still removed, not missing.
words_before as (

    select
        absences.change_key as absence_key,
        before.change_key,
        before.observed_at,
        before.status_word,
        case meanings.status when 'removed' then 'removed' else 'missing' end as status
    from absences
    cross join lateral (
        select changes.*
        from changes
        where changes.evse_key = absences.evse_key
            and changes.observed_at_exact <= absences.observed_at_exact
            and changes.status_word is not null
        order by changes.observed_at_exact desc, changes.change_key desc
        limit 1
    ) as before
    left join meanings
        on meanings.status_profile = before.status_profile
            and meanings.source_word = lower(before.status_word)
            and before.observed_at >= meanings.valid_from
            and before.observed_at < meanings.valid_until

),

held as (

    select
        by_date.evse_key,
        by_date.place_key,
        by_date.local_date,
        greatest(by_date.held_from, days.day_from) as held_from,
        least(by_date.held_until, days.day_until) as held_until,
        by_date.observed_at_exact,
        coalesce(words_before.change_key, by_date.change_key) as change_key,
        coalesce(words_before.observed_at, {{ whole_second('by_date.observed_at_exact') }}) as observed_at,
        coalesce(words_before.status_word, by_date.status_word) as status_word,
        case
            when by_date.status_word is null then coalesce(words_before.status, 'missing')
            else coalesce(by_date.status, 'unknown')
        end as status,
        by_date.is_down,
        by_date.is_occupied
    from by_date
    inner join days
        on days.place_key = by_date.place_key
            and days.local_date = by_date.local_date
            and days.day_from < by_date.held_until
            and days.day_until > by_date.held_from
    left join words_before on words_before.absence_key = by_date.change_key

),

-- Nearly all stretches lie whole in an island in which they are known from their begin on.
placed as (

    select
        held.*,
        islands_by_day.feed_key is not null or held.status in ('missing', 'removed') as is_whole
    from held
    left join islands_by_day
        on islands_by_day.place_key = held.place_key
            and islands_by_day.local_date = held.local_date
            and islands_by_day.alive_from <= held.held_from
            and islands_by_day.alive_until >= held.held_until
            -- To the instant: what was told in the second of a loss, and before it, does not outlast it.
            and (
                held.observed_at_exact >= islands_by_day.heard_from
                or held.held_from >= islands_by_day.complete_from
            )

),

broken as (

    select * from placed
    where not is_whole

),

-- Known from the own observation if it lies in the island, else from the island's first complete contact.
known as (

    select
        broken.*,
        case
            when broken.observed_at_exact >= islands_by_day.heard_from then broken.held_from
            -- Without a complete contact it stays missing: greatest() alone would pass over a null.
            when islands_by_day.complete_from is not null then greatest(broken.held_from, islands_by_day.complete_from)
        end as known_from,
        least(broken.held_until, islands_by_day.alive_until) as known_until,
        true as is_known
    from broken
    inner join islands_by_day
        on islands_by_day.place_key = broken.place_key
            and islands_by_day.local_date = broken.local_date
            and islands_by_day.alive_from < broken.held_until
            and islands_by_day.alive_until > broken.held_from

),

-- Closes every held stretch, so that what follows its last known span is seen.
laid_out as (

    select * from known
    where known_from < known_until

    union all

    select
        *,
        held_until,
        held_until,
        false
    from broken

),

with_gap as (

    select
        *,
        coalesce(
            lag(known_until) over (
                partition by evse_key, held_from
                order by known_from, is_known desc
            ),
            held_from
        ) as gap_from
    from laid_out

),

known_or_not as not materialized (

    select
        evse_key,
        local_date,
        held_from as span_from,
        held_until as span_until,
        status,
        status_word,
        change_key,
        observed_at,
        is_down,
        is_occupied
    from placed
    where is_whole

    union all

    select
        evse_key,
        local_date,
        known_from,
        known_until,
        status,
        status_word,
        change_key,
        observed_at,
        is_down,
        is_occupied
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
        observed_at,
        false,
        false
    from with_gap
    where gap_from < known_from

),

siblings as (

    {{ virtual_siblings() }}

),

-- Only what is in force where a window opens may have begun before it, and is looked up.
kinds_told as (

    select
        evse_key,
        window_from,
        observed_at,
        observed_at_exact,
        change_key,
        is_down,
        is_occupied,
        case when is_down then {{ kind_began_at('is_down', 'opening.evse_key', 'opening.observed_at') }} end as down_began_at,
        case
            when is_occupied then {{ kind_began_at('is_occupied', 'opening.evse_key', 'opening.observed_at') }}
        end as occupied_began_at
    from opening
    where has_virtual_evses and change_key is not null

    union all

    select
        evse_key,
        window_from,
        held_from,
        observed_at_exact,
        change_key,
        is_down,
        is_occupied,
        null,
        null
    from told_within
    where has_virtual_evses

),

kinds_in_order as (

    select
        *,
        lead(observed_at) over (
            partition by evse_key, window_from
            order by observed_at_exact, change_key
        ) as next_at
    from kinds_told

),

kinds_followed as (

    select
        *,
        lag(is_down) over in_order as was_down,
        lag(is_occupied) over in_order as was_occupied
    from kinds_in_order
    where next_at is distinct from observed_at
    window in_order as (partition by evse_key, window_from order by observed_at)

),

kinds_begun as (

    select
        change_key,
        max(
            coalesce(down_began_at, case when is_down and not coalesce(was_down, false) then observed_at end)
        ) over so_far as down_began_at,
        max(
            coalesce(occupied_began_at, case when is_occupied and not coalesce(was_occupied, false) then observed_at end)
        ) over so_far as occupied_began_at
    from kinds_followed
    window so_far as (
        partition by evse_key, window_from
        order by observed_at
        rows between unbounded preceding and current row
    )

),

sides as (

    select
        known_or_not.evse_key,
        known_or_not.local_date,
        known_or_not.span_from,
        known_or_not.span_until,
        known_or_not.is_down,
        known_or_not.is_occupied,
        kinds_begun.down_began_at,
        kinds_begun.occupied_began_at
    from kinds_begun
    inner join known_or_not on known_or_not.change_key = kinds_begun.change_key
    where known_or_not.is_down or known_or_not.is_occupied

),

-- Down because of the other, as far as their begins can tell: what was down before stays down, and what follows the other's use is down.
blocks as (

    select
        down.evse_key,
        down.span_from,
        greatest(down.span_from, occupied.span_from) as blocked_from,
        least(down.span_until, occupied.span_until) as blocked_until
    from siblings
    inner join sides as down on down.evse_key = siblings.evse_key and down.is_down
    inner join sides as occupied
        on occupied.evse_key = siblings.sibling_key
            and occupied.is_occupied
            and occupied.local_date = down.local_date
            and occupied.span_from < down.span_until
            and occupied.span_until > down.span_from
    where down.down_began_at between
        occupied.occupied_began_at - make_interval(secs => {{ var('sibling_tolerance_seconds') }})
        and occupied.occupied_began_at + make_interval(secs => {{ var('sibling_tolerance_seconds') }})

),

with_reach as (

    select
        *,
        max(blocked_until) over (
            partition by evse_key, span_from
            order by blocked_from, blocked_until
            rows between unbounded preceding and 1 preceding
        ) as reached
    from blocks

),

block_numbers as (

    select
        *,
        count(*) filter (where reached is null or blocked_from > reached) over (
            partition by evse_key, span_from
            order by blocked_from, blocked_until
            rows between unbounded preceding and current row
        ) as block_number
    from with_reach

),

united as (

    select
        evse_key,
        span_from,
        min(blocked_from) as blocked_from,
        max(blocked_until) as blocked_until
    from block_numbers
    group by evse_key, span_from, block_number

),

-- Each piece, blocked or not, ends where the next one begins.
points as (

    select evse_key, span_from, span_from as piece_from, false as is_blocked from united
    union
    select evse_key, span_from, blocked_from, true from united
    union all
    select evse_key, span_from, blocked_until, false from united

),

pieces as (

    select
        *,
        lead(piece_from) over (partition by evse_key, span_from order by piece_from, is_blocked) as piece_until
    from points

),

spans as (

    select
        known_or_not.evse_key,
        known_or_not.local_date,
        coalesce(pieces.piece_from, known_or_not.span_from) as span_from,
        coalesce(pieces.piece_until, known_or_not.span_until) as span_until,
        case when pieces.is_blocked then 'blocked_by_sibling' else known_or_not.status end as status,
        known_or_not.status_word,
        known_or_not.change_key,
        known_or_not.observed_at
    from known_or_not
    left join pieces on pieces.evse_key = known_or_not.evse_key and pieces.span_from = known_or_not.span_from

)

select
    evse_key,
    local_date,
    span_from,
    span_until,
    date_part('epoch', span_until - span_from)::integer as seconds,
    status,
    status_word,
    change_key,
    observed_at
from spans
-- A block that begins or ends with its span leaves nothing there.
where span_from < span_until
