-- depends_on: {{ ref('int_evse__touched_days') }}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_touched_days() }}",
    indexes=[{'columns': ['evse_key', 'break_from'], 'unique': true}, {'columns': ['local_date']}],
) }}

with spans as (

    select * from {{ ref('int_evse__status_span') }}

),

{% if is_incremental() -%}
touched as (

    select * from {{ ref('int_evse__touched_days') }}

),

{% endif -%}
breaks as (

    select
        spans.evse_key,
        spans.local_date,
        spans.status,
        spans.span_from as break_from,
        spans.span_until as break_until
    from spans
    {% if is_incremental() -%}
    inner join touched
        on touched.evse_key = spans.evse_key and touched.local_date = spans.local_date
    {% endif -%}
    where spans.status in ('planned', 'removed')

)

select * from breaks
