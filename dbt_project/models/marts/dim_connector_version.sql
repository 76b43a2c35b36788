{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

{%- set described = [
    'site_key', 'charger_key', 'site_id', 'site_name', 'address', 'suburb', 'postcode', 'state', 'country', 'latitude',
    'longitude', 'time_zone', 'charger_id', 'evse_id', 'emi3_id', 'connector_id', 'connector_standard', 'power_kw',
    'commissioned_on', 'is_listed',
] %}

with versions as (

    select * from {{ ref('stg_asset_version') }}

),

-- Of two descriptions that are true from the same time on the one learnt later holds.
in_force as (

    select distinct on (connector_key, valid_from) *
    from versions
    order by connector_key, valid_from, asset_version_key desc

),

compared as (

    select
        *,
        lag(connector_key) over (partition by connector_key order by valid_from) is null
        or ({{ described | join(', ') }})
        is distinct from (
            {%- for column in described %}
            lag({{ column }}) over (partition by connector_key order by valid_from){{ ',' if not loop.last }}
            {%- endfor %}
        ) as is_different
    from in_force

),

different as (

    select * from compared
    where is_different

),

dated as (

    select
        connector_key,
        evse_key,
        charger_key,
        site_key,
        feed_key::integer as cpo_key,
        valid_from,
        lead(valid_from) over (partition by connector_key order by valid_from) as valid_until,
        is_listed,
        connector_id,
        connector_standard,
        power_kw,
        evse_id,
        emi3_id,
        commissioned_on,
        charger_id,
        site_id,
        site_name,
        address,
        suburb,
        postcode,
        state,
        country,
        latitude,
        longitude,
        time_zone
    from different

)

select * from dated
