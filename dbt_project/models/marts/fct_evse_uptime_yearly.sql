{{ config(materialized='view') }}

{{ uptime_mart('evse', 'year') }}
