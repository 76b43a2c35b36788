{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook=["{{ delete_touched_days() }}", "{{ hash_rather_than_sort() }}"],
    indexes=[{'columns': ['evse_key', 'span_from'], 'unique': true}, {'columns': ['evse_key', 'local_date']}],
) }}

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
        services.feed_key,
        services.time_zone,
        periods.last_date,
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

    select * from windows
    where window_from < window_until

),

-- What was in force when a window opens: always one row, without a change when nothing was ever told.
opening as (

    select
        open_windows.evse_key,
        open_windows.window_from,
        earlier.change_key,
        earlier.observed_at,
        earlier.observed_at_exact,
        earlier.status_word,
        earlier.status_profile,
        (open_windows.window_from at time zone open_windows.time_zone)::date as local_date
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
        open_windows.window_from,
        changes.change_key,
        changes.observed_at,
        changes.observed_at_exact,
        changes.status_word,
        changes.status_profile,
        (changes.observed_at_exact at time zone open_windows.time_zone)::date as local_date
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

followed as (

    select
        *,
        lead(observed_at) over in_order as next_from,
        lead(local_date) over in_order as next_date
    from told
    window in_order as (
        partition by evse_key, window_from
        -- Of two changes in one second the later one holds; of two at one instant the one learnt later.
        order by observed_at_exact nulls first, change_key nulls first
    )

),

stretches as (

    select
        followed.evse_key,
        open_windows.feed_key,
        open_windows.time_zone,
        followed.change_key,
        followed.observed_at,
        followed.observed_at_exact,
        followed.status_word,
        followed.status_profile,
        followed.local_date as first_date,
        coalesce(followed.next_date, open_windows.last_date) as last_date,
        greatest(followed.observed_at, followed.window_from) as held_from,
        coalesce(followed.next_from, open_windows.window_until) as held_until
    from followed
    inner join open_windows
        on open_windows.evse_key = followed.evse_key and open_windows.window_from = followed.window_from

),

-- A status that holds over midnight is cut there.
by_day as (

    select
        stretches.evse_key,
        stretches.feed_key,
        stretches.time_zone,
        stretches.change_key,
        stretches.observed_at,
        stretches.observed_at_exact,
        stretches.status_word,
        stretches.status_profile,
        cut.local_date,
        cut.held_from,
        cut.held_until
    from stretches
    cross join lateral (
        select stretches.first_date as local_date, stretches.held_from, stretches.held_until
        where stretches.first_date = stretches.last_date

        union all

        select
            midnight.local_time::date,
            greatest(midnight.local_time at time zone stretches.time_zone, stretches.held_from),
            least((midnight.local_time + interval '1 day') at time zone stretches.time_zone, stretches.held_until)
        from generate_series(
            stretches.first_date::timestamp, stretches.last_date::timestamp, interval '1 day'
        ) as midnight (local_time)
        where stretches.first_date < stretches.last_date
    ) as cut
    where cut.held_from < cut.held_until

),

absences as (

    select evse_key, change_key, observed_at_exact from opening
    where change_key is not null and status_word is null

    union all

    select changes.evse_key, changes.change_key, changes.observed_at_exact
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
        before.status_profile
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

),

with_word as (

    select
        by_day.evse_key,
        by_day.feed_key,
        by_day.time_zone,
        by_day.local_date,
        by_day.held_from,
        by_day.held_until,
        by_day.observed_at_exact,
        by_day.status_word is null as is_absent,
        coalesce(words_before.change_key, by_day.change_key) as change_key,
        coalesce(words_before.observed_at, by_day.observed_at) as observed_at,
        coalesce(words_before.status_word, by_day.status_word) as status_word,
        coalesce(words_before.status_profile, by_day.status_profile) as status_profile
    from by_day
    left join words_before on words_before.absence_key = by_day.change_key

),

held as (

    select
        with_word.*,
        case
            when meanings.status = 'removed' then 'removed'
            when with_word.is_absent then 'missing'
            else coalesce(meanings.status, 'unknown')
        end as status,
        coalesce(meanings.is_down, false) and not with_word.is_absent as is_down,
        coalesce(meanings.is_occupied, false) and not with_word.is_absent as is_occupied
    from with_word
    left join meanings
        on meanings.status_profile = with_word.status_profile
            and meanings.source_word = lower(with_word.status_word)
            and with_word.observed_at >= meanings.valid_from
            and with_word.observed_at < meanings.valid_until

),

extents as (

    select
        feed_key,
        time_zone,
        min((window_from at time zone time_zone)::date) as first_date,
        max(last_date) as last_date
    from open_windows
    group by feed_key, time_zone

),

islands_by_day as (

    select
        extents.time_zone,
        midnight.local_time::date as local_date,
        islands.*
    from extents
    cross join lateral generate_series(
        extents.first_date::timestamp, extents.last_date::timestamp, interval '1 day'
    ) as midnight (local_time)
    inner join islands
        on islands.feed_key = extents.feed_key
            and islands.alive_from < (midnight.local_time + interval '1 day') at time zone extents.time_zone
            and islands.alive_until > midnight.local_time at time zone extents.time_zone

),

-- Nearly all stretches lie whole in an island in which they are known from their begin on.
placed as (

    select
        held.*,
        islands_by_day.feed_key is not null or held.status in ('missing', 'removed') as is_whole
    from held
    left join islands_by_day
        on islands_by_day.feed_key = held.feed_key
            and islands_by_day.time_zone = held.time_zone
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
        on islands_by_day.feed_key = broken.feed_key
            and islands_by_day.time_zone = broken.time_zone
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

-- The begins are looked up once for each.
side_by_side as materialized (

    select
        down.evse_key,
        down.span_from,
        greatest(down.span_from, occupied.span_from) as blocked_from,
        least(down.span_until, occupied.span_until) as blocked_until,
        {{ kind_began_at('is_down', 'down.evse_key', 'down.observed_at') }} as down_began_at,
        {{ kind_began_at('is_occupied', 'occupied.evse_key', 'occupied.observed_at') }} as occupied_began_at
    from siblings
    inner join known_or_not as down on down.evse_key = siblings.evse_key and down.is_down
    inner join known_or_not as occupied
        on occupied.evse_key = siblings.sibling_key
            and occupied.is_occupied
            and occupied.local_date = down.local_date
            and occupied.span_from < down.span_until
            and occupied.span_until > down.span_from

),

-- Down because of the other, as far as their begins can tell: what was down before stays down, and what follows the other's use is down.
blocks as (

    select * from side_by_side
    where down_began_at between
        occupied_began_at - make_interval(secs => {{ var('sibling_tolerance_seconds') }})
        and occupied_began_at + make_interval(secs => {{ var('sibling_tolerance_seconds') }})

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
    extract(epoch from span_until - span_from)::integer as seconds,
    status,
    status_word,
    change_key,
    observed_at
from spans
-- A block that begins or ends with its span leaves nothing there.
where span_from < span_until
