{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with versions as (

    select * from {{ ref('stg_exclusion_version') }}

),

latest as (

    select distinct on (exclusion_id)
        exclusion_id,
        evse_key,
        excluded_from,
        excluded_until,
        category,
        evidence,
        entered_by,
        entered_at,
        decision,
        decided_by,
        decided_at,
        note
    from versions
    order by exclusion_id, exclusion_version_key desc

)

select * from latest
