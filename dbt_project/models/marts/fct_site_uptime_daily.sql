{{ config(materialized='view') }}

{{ uptime_mart('site', 'local_date') }}
