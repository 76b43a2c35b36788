{{ config(materialized='view') }}

{{ uptime_mart('charger', 'year') }}
