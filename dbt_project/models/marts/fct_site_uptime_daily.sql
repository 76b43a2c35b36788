{{ config(materialized='view') }}

{{ uptime_mart('site', 'fct_evse_status_daily', 'local_date') }}
