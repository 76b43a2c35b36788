{{ config(materialized='view') }}

{{ uptime_mart('charger', 'int_evse__status_monthly', 'local_month') }}
