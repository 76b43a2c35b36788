{{ config(materialized='view') }}

{{ uptime_mart('connector', 'local_month') }}
