{{ config(materialized='view') }}

-- Neither a `with` nor a window nor a group above the lateral: who asks for some EVSEs and days, be it by a join, has only those laid out.
select
    daily.evse_key,
    evses.site_key,
    daily.local_date,
    bucket.bucket_number,
    midnight.day_from + bucket.bucket_number * interval '30 minutes' as bucket_from,
    midnight.day_from + (bucket.bucket_number + 1) * interval '30 minutes' as bucket_until,
    daily.status,
    bucket.seconds
from {{ ref('fct_evse_status_daily') }} as daily
inner join {{ ref('dim_evse') }} as evses on evses.evse_key = daily.evse_key
cross join lateral (
    select daily.local_date::timestamp at time zone evses.time_zone as day_from
) as midnight
cross join lateral (
    select
        pieces.bucket_number,
        sum(
            least(pieces.until_second, (pieces.bucket_number + 1) * 1800) - greatest(pieces.from_second, pieces.bucket_number * 1800)
        )::integer as seconds
    from (
        select
            since_midnight.from_second,
            since_midnight.until_second,
            {{ each_slot('since_midnight.from_second', 'since_midnight.until_second', 1800) }} as bucket_number
        from (
            select
                {{ seconds_between('midnight.day_from', 'spans.span_from') }} as from_second,
                {{ seconds_between('midnight.day_from', 'spans.span_until') }} as until_second
            from {{ ref('int_evse__status_span') }} as spans
            where spans.evse_key = daily.evse_key
                and spans.local_date = daily.local_date
                and spans.status = daily.status
        ) as since_midnight
    ) as pieces
    group by pieces.bucket_number
) as bucket
