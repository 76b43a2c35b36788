{{ config(materialized='view') }}

{{ uptime_mart('connector', 'fct_evse_status_daily', 'local_date') }}
