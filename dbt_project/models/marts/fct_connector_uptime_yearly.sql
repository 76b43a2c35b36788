{{ config(materialized='view') }}

{{ uptime_mart('connector', 'year') }}
