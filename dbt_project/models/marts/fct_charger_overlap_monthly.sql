{{ config(materialized='view') }}

{{ overlap_mart('charger', 'local_month') }}
