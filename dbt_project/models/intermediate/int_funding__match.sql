with verdicts as (

    select * from {{ ref('int_funding__verdict') }}

),

claims as (

    select * from {{ ref('int_funding__claim') }}

),

site_verdicts as (

    select * from {{ ref('int_funding__site') }}

),

candidates as (

    select * from {{ ref('int_funding__candidate') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

assets as (

    select * from {{ ref('stg_funded_asset') }}

),

by_id as (

    select
        claims.asset_id,
        claims.evse_key,
        claims.charger_key,
        claims.match_method,
        claims.distance_m
    from claims
    inner join verdicts on verdicts.asset_id = claims.asset_id
    where verdicts.is_claim_taken and claims.evse_key is not null

),

by_distance as (

    select
        verdicts.asset_id,
        services.evse_key,
        services.charger_key,
        'distance' as match_method,
        candidates.distance_m
    from verdicts
    inner join site_verdicts on site_verdicts.site_key = verdicts.near_site_key and site_verdicts.is_matched
    inner join candidates
        on candidates.asset_id = verdicts.asset_id and candidates.site_key = verdicts.near_site_key
    inner join services on services.site_key = verdicts.near_site_key
    where services.charger_key not in (select by_id.charger_key from by_id)

),

matched as (

    select * from by_id

    union all

    select * from by_distance

),

-- An EVSE was funded once. Rows for the chargers of one site all speak of each of them: the first one is taken.
first_matched as (

    select distinct on (matched.evse_key)
        matched.evse_key,
        matched.asset_id,
        assets.program,
        assets.round,
        assets.address,
        assets.suburb,
        matched.match_method,
        matched.distance_m
    from matched
    inner join assets on assets.asset_id = matched.asset_id
    order by
        matched.evse_key,
        array_position(array['decision', 'evse_port_id', 'evse_id', 'distance'], matched.match_method),
        assets.line

)

select * from first_matched
