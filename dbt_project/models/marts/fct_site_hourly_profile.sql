{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_touched_cells() }}",
    indexes=[
        {'columns': ['site_key', 'local_month', 'iso_weekday', 'local_hour'], 'unique': true},
        {'columns': ['local_month']},
    ],
) }}

with cells as (

    {{ touched_cells() }}

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

-- Every day of a touched cell: the same weekday of the same month.
days as (

    select
        cells.site_key,
        cells.local_month,
        cells.iso_weekday,
        listed.local_time::date as local_date
    from cells
    cross join lateral generate_series(
        cells.local_month + (cells.iso_weekday - extract(isodow from cells.local_month)::integer + 7) % 7,
        cells.local_month + interval '1 month' - interval '1 day',
        interval '7 days'
    ) as listed (local_time)

),

evse_days as (

    select
        evses.evse_key,
        evses.time_zone,
        days.site_key,
        days.local_month,
        days.iso_weekday,
        days.local_date,
        days.local_date::timestamp at time zone evses.time_zone as day_from,
        (days.local_date + 1)::timestamp at time zone evses.time_zone as day_until
    from days
    inner join evses on evses.site_key = days.site_key

),

-- An hour of the clock is the hour since midnight, but for days on which the clocks change: by half hours, each of which lies in one hour of the clock.
ruled as (

    select
        *,
        case when day_until - day_from = interval '24 hours' then 3600 else 1800 end as slot_seconds
    from evse_days

),

since_midnight as (

    select
        ruled.*,
        canonical_statuses.kind,
        {{ seconds_between('ruled.day_from', 'spans.span_from') }} as from_second,
        {{ seconds_between('ruled.day_from', 'spans.span_until') }} as until_second
    from ruled
    inner join spans on spans.evse_key = ruled.evse_key and spans.local_date = ruled.local_date
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
        local_month,
        iso_weekday,
        local_date,
        kind,
        case
            when slot_seconds = 3600 then slot
            else extract(hour from (day_from + slot * slot_seconds * interval '1 second') at time zone time_zone)
        end::smallint as local_hour,
        least(until_second, (slot + 1) * slot_seconds) - greatest(from_second, slot * slot_seconds) as seconds
    from pieces

),

profile as (

    select
        site_key,
        local_month,
        iso_weekday,
        local_hour,
        {{ distinct_days('local_date') }} as day_count,
        sum(seconds)::integer as in_service_seconds,
        {%- for kind in ['free', 'in_use', 'down', 'not_known'] %}
        coalesce(sum(seconds) filter (where kind = '{{ kind }}'), 0)::integer as {{ kind }}_seconds
        {{- ',' if not loop.last }}
        {%- endfor %}
    from clocked
    group by site_key, local_month, iso_weekday, local_hour

)

select * from profile
