{{ config(materialized='view') }}

{{ uptime_mart('charger', 'fct_evse_status_daily', 'local_date') }}
