{{ config(materialized='view') }}

with spans as (

    select * from {{ ref('int_evse__status_span') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

days as (

    select
        spans.evse_key,
        evses.site_key,
        spans.local_date,
        spans.local_date::timestamp at time zone evses.time_zone as day_from,
        spans.span_from,
        spans.span_until,
        spans.status
    from spans
    inner join evses on evses.evse_key = spans.evse_key
    where spans.status in ('{{ in_service_statuses() | join("', '") }}')

),

since_midnight as (

    select
        evse_key,
        site_key,
        local_date,
        day_from,
        status,
        {{ seconds_between('day_from', 'span_from') }} as from_second,
        {{ seconds_between('day_from', 'span_until') }} as until_second
    from days

),

pieces as (

    select
        *,
        {{ each_slot('from_second', 'until_second', 1800) }} as bucket_number
    from since_midnight

),

buckets as (

    select
        evse_key,
        site_key,
        local_date,
        bucket_number,
        day_from + bucket_number * interval '30 minutes' as bucket_from,
        day_from + (bucket_number + 1) * interval '30 minutes' as bucket_until,
        status,
        sum(
            least(until_second, (bucket_number + 1) * 1800) - greatest(from_second, bucket_number * 1800)
        )::integer as seconds
    from pieces
    group by evse_key, site_key, local_date, bucket_number, day_from, status

)

select * from buckets
