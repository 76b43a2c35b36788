{{ config(materialized='view') }}

{{ uptime_mart('group', 'local_month') }}
