-- Within a day, each span begins where the one before it ended.
with spans as (

    {{ touched_rows(ref('int_evse__status_span')) }}

),

followed as (

    select
        *,
        lag(span_until) over (partition by evse_key, local_date order by span_from) as previous_until
    from spans

)

select * from followed
where previous_until <> span_from
    or seconds <= 0
