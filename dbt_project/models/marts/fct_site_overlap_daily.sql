{{ config(materialized='view') }}

{{ overlap_mart('site', 'local_date') }}
