{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with feeds as (

    select * from {{ ref('stg_feed') }}

),

activity as (

    select * from {{ ref('int_feed__activity_daily') }}

),

unmapped as (

    select
        cpo_key,
        utc_date,
        sum(change_count) as change_count
    from {{ ref('int_feed__unmapped_daily') }}
    group by cpo_key, utc_date

),

flips as (

    select
        cpo_key,
        utc_date,
        count(*) as flip_count
    from {{ ref('fct_feed_flip') }}
    group by cpo_key, utc_date

),

quarantine as (

    select * from {{ ref('stg_quarantine') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

absences as (

    -- What was removed and is not listed any more did what was to be expected.
    select * from {{ ref('fct_evse_absence') }}
    where last_status <> 'removed'

),

extents as (

    select
        activity.cpo_key,
        min(activity.utc_date) as first_date,
        (least({{ as_of() }}, feeds.ended_at) - interval '1 second') at time zone 'UTC' as last_time
    from activity
    inner join feeds on feeds.feed_key = activity.cpo_key
    group by activity.cpo_key, feeds.ended_at

),

days as (

    select
        extents.cpo_key,
        listed.at::date as utc_date,
        least((listed.at + interval '1 day') at time zone 'UTC', {{ as_of() }}) as day_until,
        extract(epoch from
            least((listed.at + interval '1 day') at time zone 'UTC', {{ as_of() }}) - listed.at at time zone 'UTC'
        ) as day_seconds
    from extents
    cross join lateral generate_series(
        extents.first_date::timestamp, extents.last_time, interval '1 day'
    ) as listed (at)

),

-- What is counted at the end of a day: what came until then, less what went.
events as (

    select
        feed_key::integer as cpo_key,
        (first_observed_at at time zone 'UTC')::date as utc_date,
        count(*) as evses,
        0 as vanished,
        0 as quarantined,
        0 as quarantine_open
    from services
    where first_observed_at is not null
    group by 1, 2

    union all

    select
        cpo_key,
        (vanished_at at time zone 'UTC')::date,
        0,
        count(*),
        0,
        0
    from absences
    group by 1, 2

    union all

    select
        cpo_key,
        (returned_at at time zone 'UTC')::date,
        0,
        -count(*),
        0,
        0
    from absences
    where returned_at is not null
    group by 1, 2

    union all

    select
        feed_key::integer,
        (first_seen_at at time zone 'UTC')::date,
        0,
        0,
        count(*),
        count(*)
    from quarantine
    group by 1, 2

    union all

    select
        feed_key::integer,
        (closed_at at time zone 'UTC')::date,
        0,
        0,
        0,
        -count(*)
    from quarantine
    where closed_at is not null
    group by 1, 2

),

events_by_day as (

    select
        cpo_key,
        -- What came before the first day with contact counts on that day.
        greatest(events.utc_date, extents.first_date) as utc_date,
        sum(events.evses) as evses,
        sum(events.vanished) as vanished,
        sum(events.quarantined) as quarantined,
        sum(events.quarantine_open) as quarantine_open
    from events
    inner join extents using (cpo_key)
    group by 1, 2

),

counted as (

    select
        days.cpo_key,
        days.utc_date,
        days.day_until,
        days.day_seconds,
        max(activity.last_contact_at) over up_to_the_day as last_contact_at,
        coalesce(activity.contact_seconds, 0) as contact_seconds,
        coalesce(activity.complete_count, 0) as complete_count,
        coalesce(activity.alive_count, 0) as alive_count,
        coalesce(activity.failed_count, 0) as failed_count,
        coalesce(activity.lost_count, 0) as lost_count,
        coalesce(activity.change_count, 0) as change_count,
        activity.latency_p50_seconds,
        activity.latency_p95_seconds,
        activity.latency_max_seconds,
        coalesce(sum(events_by_day.evses) over up_to_the_day, 0) as evse_count,
        coalesce(sum(events_by_day.vanished) over up_to_the_day, 0) as vanished_count,
        coalesce(events_by_day.quarantined, 0) as quarantined_count,
        coalesce(sum(events_by_day.quarantine_open) over up_to_the_day, 0) as open_quarantine_count,
        coalesce(unmapped.change_count, 0) as unmapped_change_count,
        coalesce(flips.flip_count, 0) as flip_count
    from days
    left join activity on activity.cpo_key = days.cpo_key and activity.utc_date = days.utc_date
    left join events_by_day on events_by_day.cpo_key = days.cpo_key and events_by_day.utc_date = days.utc_date
    left join unmapped on unmapped.cpo_key = days.cpo_key and unmapped.utc_date = days.utc_date
    left join flips on flips.cpo_key = days.cpo_key and flips.utc_date = days.utc_date
    window up_to_the_day as (
        partition by days.cpo_key
        order by days.utc_date
        rows between unbounded preceding and current row
    )

)

select
    cpo_key,
    utc_date,
    -- A stretch that goes on is contact until the day ends.
    least(last_contact_at, day_until) as last_contact_at,
    {{ ratio('contact_seconds', 'day_seconds') }} as contact_ratio,
    complete_count,
    alive_count,
    failed_count,
    lost_count,
    round(latency_p50_seconds::numeric, 3)::numeric(14, 3) as latency_p50_seconds,
    round(latency_p95_seconds::numeric, 3)::numeric(14, 3) as latency_p95_seconds,
    round(latency_max_seconds::numeric, 3)::numeric(14, 3) as latency_max_seconds,
    change_count,
    round(change_count / nullif(evse_count, 0)::numeric, 3)::numeric(14, 3) as changes_per_evse,
    evse_count::integer as evse_count,
    vanished_count::integer as vanished_count,
    quarantined_count::integer as quarantined_count,
    open_quarantine_count::integer as open_quarantine_count,
    unmapped_change_count::integer as unmapped_change_count,
    flip_count::integer as flip_count
from counted
