{{ config(materialized='view') }}

{{ uptime_mart('site', 'int_evse__status_monthly', 'local_month') }}
