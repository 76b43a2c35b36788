{{ config(materialized='view') }}

{{ outage_mart('site') }}
