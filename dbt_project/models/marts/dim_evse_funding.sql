{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with matched as (

    select * from {{ ref('int_funding__match') }}

)

select
    evse_key,
    program,
    round,
    match_method,
    distance_m,
    asset_id
from matched
