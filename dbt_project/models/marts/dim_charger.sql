{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with connectors as (

    select * from {{ ref('int_connector__current') }}

),

described as (

    select distinct on (charger_key)
        charger_key,
        site_key,
        feed_key::integer as cpo_key,
        charger_id
    from connectors
    order by charger_key, is_listed desc, valid_from desc, evse_id, connector_id, asset_version_key desc

)

select * from described
