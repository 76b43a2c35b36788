with versions as (

    select * from {{ ref('stg_asset_version') }}

),

latest as (

    select distinct on (connector_key) *
    from versions
    order by connector_key, valid_from desc, asset_version_key desc

)

select * from latest
