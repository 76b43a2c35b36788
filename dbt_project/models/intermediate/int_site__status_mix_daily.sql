{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_days_of('site') }}",
    indexes=[{'columns': ['site_key', 'local_date', 'mix'], 'unique': true}, {'columns': ['local_month']}],
) }}

{{ status_mix('site') }}
