{{ config(materialized='view') }}

{{ uptime_mart('evse', 'rolling_12_months') }}
