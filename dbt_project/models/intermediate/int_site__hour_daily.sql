{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_days_of('site') }}",
    indexes=[{'columns': ['site_key', 'local_date', 'local_hour'], 'unique': true}, {'columns': ['local_month']}],
) }}

with touched as (

    select * from {{ ref('int_site__touched_days') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

spans as (

    select * from {{ ref('int_evse__status_span') }}

),

canonical_statuses as (

    select * from {{ ref('canonical_statuses') }}

),

-- Kept, or the zone's rules are asked for every span.
evse_days as materialized (

    select
        evses.evse_key,
        evses.time_zone,
        touched.site_key,
        touched.local_date,
        touched.local_date::timestamp at time zone evses.time_zone as day_from,
        (touched.local_date + 1)::timestamp at time zone evses.time_zone as day_until
    from touched
    inner join evses on evses.site_key = touched.site_key

),

since_midnight as (

    select
        evse_days.*,
        -- An hour of the clock is the hour since midnight, but for days on which the clocks change: by half hours, each of which lies in one hour of the clock.
        case when evse_days.day_until - evse_days.day_from = interval '24 hours' then 3600 else 1800 end as slot_seconds,
        canonical_statuses.kind,
        {{ seconds_between('evse_days.day_from', 'spans.span_from') }} as from_second,
        {{ seconds_between('evse_days.day_from', 'spans.span_until') }} as until_second
    from evse_days
    inner join spans on spans.evse_key = evse_days.evse_key and spans.local_date = evse_days.local_date
    inner join canonical_statuses on canonical_statuses.status = spans.status
    where canonical_statuses.kind <> 'not_in_service'

),

pieces as (

    select
        *,
        {{ each_slot('from_second', 'until_second', 'slot_seconds') }} as slot
    from since_midnight

),

clocked as (

    select
        site_key,
        local_date,
        kind,
        case
            when slot_seconds = 3600 then slot
            else date_part('hour', (day_from + slot * slot_seconds * interval '1 second') at time zone time_zone)
        end::smallint as local_hour,
        least(until_second, (slot + 1) * slot_seconds) - greatest(from_second, slot * slot_seconds) as seconds
    from pieces

),

daily as (

    select
        site_key,
        local_date,
        date_trunc('month', local_date)::date as local_month,
        local_hour,
        sum(seconds)::integer as in_service_seconds,
        {%- for kind in ['free', 'in_use', 'down', 'not_known'] %}
        coalesce(sum(seconds) filter (where kind = '{{ kind }}'), 0)::integer as {{ kind }}_seconds
        {{- ',' if not loop.last }}
        {%- endfor %}
    from clocked
    group by site_key, local_date, local_hour

)

select * from daily
