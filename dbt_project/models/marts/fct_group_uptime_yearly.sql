{{ config(materialized='view') }}

{{ uptime_mart('group', 'year') }}
