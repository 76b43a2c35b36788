{{ config(materialized='view') }}

{{ uptime_mart('site', 'year') }}
