{{ config(materialized='view') }}

{{ uptime_mart('site', 'local_month') }}
