{{ config(materialized='view') }}

{{ uptime_mart('evse', 'local_date') }}
