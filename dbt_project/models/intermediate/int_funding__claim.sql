with assets as (

    select * from {{ ref('stg_funded_asset') }}

),

decisions as (

    select * from {{ ref('stg_funding_decision') }}

),

asset_cpos as (

    select * from {{ ref('int_funding__cpo') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

chargers as (

    select * from {{ ref('dim_charger') }}

),

sites as (

    select * from {{ ref('int_site__placed') }}

),

evses as (

    select
        services.evse_key,
        services.charger_key,
        services.site_key,
        services.feed_key as cpo_key,
        lower(services.evse_id) as evse_id,
        lower(services.emi3_id) as emi3_id,
        lower(chargers.charger_id) as charger_id,
        sites.latitude,
        sites.longitude
    from services
    inner join chargers on chargers.charger_key = services.charger_key
    inner join sites on sites.site_key = services.site_key

),

-- What is said to be funded by id: by a person's decision, else by the list. A port's id is one EVSE's, a charger's is that of all its EVSEs.
-- Who names an EVSE twice names it once.
said as (

    select
        decisions.asset_id,
        'decision' as match_method,
        lower(decided.evse_id) as said_id
    from decisions
    cross join lateral unnest(decisions.evse_ids) as decided (evse_id)

    union

    select
        assets.asset_id,
        case when assets.evse_port_id is not null then 'evse_port_id' else 'evse_id' end,
        lower(coalesce(assets.evse_port_id, assets.evse_id))
    from assets
    where not exists (select from decisions where decisions.asset_id = assets.asset_id)
        and coalesce(assets.evse_port_id, assets.evse_id) is not null

),

claims as (

    select
        said.asset_id,
        said.match_method,
        said.said_id,
        evses.evse_key,
        evses.charger_key,
        {{ metres_between('assets.latitude', 'assets.longitude', 'evses.latitude', 'evses.longitude') }} as distance_m
    from said
    inner join assets on assets.asset_id = said.asset_id
    left join asset_cpos on asset_cpos.asset_id = said.asset_id
    left join evses
        on evses.cpo_key = asset_cpos.cpo_key
            and (
                said.said_id in (evses.evse_id, evses.emi3_id)
                or said.match_method = 'evse_id' and said.said_id = evses.charger_id
            )

)

select * from claims
