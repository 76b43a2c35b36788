{{ config(materialized='view') }}

{{ uptime_mart('charger', 'local_date') }}
