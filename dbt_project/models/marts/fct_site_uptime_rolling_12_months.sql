{{ config(materialized='view') }}

{{ uptime_mart('site', 'rolling_12_months') }}
