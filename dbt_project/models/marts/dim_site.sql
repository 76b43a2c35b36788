{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with placed as (

    select * from {{ ref('int_site__placed') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

matched as (

    select * from {{ ref('int_funding__match') }}

),

-- The list says where the funded chargers stand: for sites that do not say it themselves.
listed as (

    select distinct on (services.site_key)
        services.site_key,
        matched.address,
        matched.suburb
    from matched
    inner join services on services.evse_key = matched.evse_key
    order by services.site_key, matched.evse_key

),

filled as (

    select
        placed.site_key,
        placed.cpo_key,
        placed.site_id,
        placed.site_name,
        coalesce(placed.address, listed.address) as address,
        case when placed.address is not null then 'stated' when listed.address is not null then 'funded list' end
            as address_method,
        coalesce(placed.suburb, listed.suburb) as suburb,
        case when placed.suburb is not null then 'stated' when listed.suburb is not null then 'funded list' end
            as suburb_method,
        placed.postcode,
        placed.postcode_method,
        placed.state,
        placed.stated_state,
        placed.latitude,
        placed.longitude,
        placed.time_zone,
        placed.lga_code,
        placed.lga_name,
        placed.lga_method
    from placed
    left join listed on listed.site_key = placed.site_key

)

select * from filled
