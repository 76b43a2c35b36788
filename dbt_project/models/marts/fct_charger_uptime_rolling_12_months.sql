{{ config(materialized='view') }}

{{ uptime_mart('charger', 'rolling_12_months') }}
