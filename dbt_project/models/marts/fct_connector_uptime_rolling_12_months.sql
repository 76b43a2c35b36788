{{ config(materialized='view') }}

{{ uptime_mart('connector', 'rolling_12_months') }}
