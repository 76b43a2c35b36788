with assets as (

    select * from {{ ref('stg_funded_asset') }}

),

asset_cpos as (

    select * from {{ ref('int_funding__cpo') }}

),

sites as (

    select * from {{ ref('int_site__placed') }}

),

distances as (

    select
        assets.asset_id,
        sites.site_key,
        {{ metres_between('assets.latitude', 'assets.longitude', 'sites.latitude', 'sites.longitude') }} as distance_m
    from assets
    inner join asset_cpos on asset_cpos.asset_id = assets.asset_id
    inner join sites on sites.cpo_key = asset_cpos.cpo_key

),

ranked as (

    select
        *,
        row_number() over (partition by asset_id order by distance_m, site_key) as nearness
    from distances
    where distance_m is not null

),

-- Of the CPO's sites those within reach; the nearest in any case, for a person to look at.
near as (

    select
        asset_id,
        site_key,
        distance_m
    from ranked
    where distance_m <= {{ var('funding_doubtful_within_m') }} or nearness = 1

)

select * from near
