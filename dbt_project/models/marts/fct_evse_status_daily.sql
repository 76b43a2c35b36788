{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_touched_days() }}",
    indexes=[{'columns': ['evse_key', 'local_date', 'status'], 'unique': true}, {'columns': ['local_date']}],
) }}

with spans as (

    {{ touched_rows(ref('int_evse__status_span')) }}

),

daily as (

    select
        spans.evse_key,
        spans.local_date,
        spans.status,
        sum(spans.seconds)::integer as seconds
    from spans
    -- Time in which the EVSE is not in service is nobody's uptime or downtime.
    where spans.status not in ('planned', 'removed')
    group by 1, 2, 3

)

select * from daily
