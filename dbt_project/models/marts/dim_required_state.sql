{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with required as (

    select * from {{ ref('stg_required_state') }}

)

select * from required
