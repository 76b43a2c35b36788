{{ config(materialized='view') }}

{{ uptime_mart('connector', 'local_date') }}
