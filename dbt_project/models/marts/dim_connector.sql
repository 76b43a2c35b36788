{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with connectors as (

    select * from {{ ref('int_connector__current') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

described as (

    select
        connectors.connector_key,
        connectors.evse_key,
        services.charger_key,
        services.site_key,
        connectors.feed_key::integer as cpo_key,
        connectors.connector_id,
        connectors.connector_standard,
        connectors.power_kw,
        connectors.is_listed
    from connectors
    inner join services on services.evse_key = connectors.evse_key

)

select * from described
