{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with connectors as (

    select * from {{ ref('int_connector__current') }}

),

postcode_ranges as (

    select * from {{ ref('postcode_ranges') }}

),

described as (

    select distinct on (site_key) *
    from connectors
    -- Of descriptions of one time the ids decide, not the order in which they arrived.
    order by site_key, is_listed desc, valid_from desc, evse_id, connector_id, asset_version_key desc

),

with_state as (

    select
        described.site_key,
        described.feed_key::integer as cpo_key,
        described.site_id,
        described.site_name,
        described.address,
        described.suburb,
        described.postcode,
        -- A postcode overrules a wrong state.
        coalesce(postcode_ranges.state, upper(described.state)) as state,
        upper(described.state) as stated_state,
        described.latitude,
        described.longitude,
        described.time_zone,
        null::text as lga_code,
        null::text as lga_name,
        null::text as lga_method
    from described
    left join postcode_ranges
        on described.postcode ~ '^\d{4}$'
            and coalesce(upper(described.country), 'AU') in ('AU', 'AUS')
            -- The pattern is checked again: a join condition may be evaluated in any order.
            and case when described.postcode ~ '^\d{4}$' then described.postcode::integer end
            between postcode_ranges.first_postcode and postcode_ranges.last_postcode

)

select * from with_state
