-- Within a day, each span begins where the one before it ended.
with spans as (

    select
        *,
        lag(span_until) over (partition by evse_key, local_date order by span_from) as previous_until
    from {{ ref('int_evse__status_span') }}

)

select * from spans
where previous_until <> span_from
    or seconds <= 0
