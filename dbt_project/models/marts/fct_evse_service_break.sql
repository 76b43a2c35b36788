{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_touched_days() }}",
    indexes=[{'columns': ['evse_key', 'break_from'], 'unique': true}, {'columns': ['local_date']}],
) }}

with spans as (

    {{ touched_rows(ref('int_evse__status_span')) }}

),

breaks as (

    select
        spans.evse_key,
        spans.local_date,
        spans.status,
        spans.span_from as break_from,
        spans.span_until as break_until
    from spans
    where spans.status in ('planned', 'removed')

)

select * from breaks
