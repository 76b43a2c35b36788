{{ config(materialized='view') }}

{{ uptime_mart('connector', 'int_evse__status_monthly', 'local_month') }}
