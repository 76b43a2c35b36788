{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_days_of('charger') }}",
    indexes=[{'columns': ['charger_key', 'local_date', 'mix'], 'unique': true}, {'columns': ['local_month']}],
) }}

{{ status_mix('charger') }}
