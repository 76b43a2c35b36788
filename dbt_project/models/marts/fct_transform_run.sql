{{ config(materialized='view') }}

with runs as (

    select * from {{ source('state', 'transform_run') }}

)

select
    run_key,
    started_at,
    finished_at,
    as_of,
    is_full_refresh
from runs
