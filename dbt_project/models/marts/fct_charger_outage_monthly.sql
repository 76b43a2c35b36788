{{ config(materialized='view') }}

{{ outage_mart('charger') }}
