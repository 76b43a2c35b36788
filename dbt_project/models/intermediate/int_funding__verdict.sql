with assets as (

    select * from {{ ref('stg_funded_asset') }}

),

decisions as (

    select * from {{ ref('stg_funding_decision') }}

),

asset_cpos as (

    select * from {{ ref('int_funding__cpo') }}

),

candidates as (

    select * from {{ ref('int_funding__candidate') }}

),

claims as (

    select * from {{ ref('int_funding__claim') }}

),

lga_places as (

    select * from {{ ref('stg_lga_place') }}

),

lga_names as (

    select * from {{ ref('int_lga__name') }}

),

claimed as (

    select
        asset_id,
        count(distinct evse_key) as evse_count,
        count(distinct charger_key) as charger_count,
        count(distinct said_id) filter (where evse_key is null) as not_found_count,
        max(distance_m) as distance_m
    from claims
    group by asset_id

),

near as (

    select
        asset_id,
        count(*) filter (where distance_m <= {{ var('funding_matched_within_m') }}) as near_count,
        count(*) filter (where distance_m <= {{ var('funding_doubtful_within_m') }}) as reachable_count,
        min(site_key) filter (where distance_m <= {{ var('funding_matched_within_m') }}) as near_site_key
    from candidates
    group by asset_id

),

listed as (

    select
        assets.*,
        coalesce(assets.evse_port_id, assets.evse_id) is not null as has_id,
        decisions.asset_id is not null as is_decided,
        exists (select from asset_cpos where asset_cpos.asset_id = assets.asset_id) as has_cpo,
        coalesce(assets.lga_code, lga_names.lga_code) <> lga_places.code as is_elsewhere
    from assets
    left join decisions on decisions.asset_id = assets.asset_id
    left join lga_names
        on lga_names.plain_name = {{ plain_name('assets.lga_name') }} and lga_names.state = assets.state
    left join lga_places
        on lga_places.latitude = assets.latitude
            and lga_places.longitude = assets.longitude
            and lga_places.distance_m = 0

),

judged as (

    select
        listed.asset_id,
        listed.program,
        listed.round,
        listed.is_decided,
        listed.has_id,
        case
            when listed.is_decided
                then case when claimed.not_found_count > 0 then 'decided_evse_not_found' end
            when not listed.has_cpo then 'cpo_not_found'
            when listed.has_id
                then case
                    when claimed.evse_count = 0 then 'id_not_found'
                    when claimed.charger_count > 1 then 'id_of_several'
                    when listed.evse_port_id is not null and claimed.evse_count > 1 then 'id_of_several'
                    when claimed.distance_m > {{ var('funding_doubtful_within_m') }} then 'id_is_far_away'
                end
            when listed.latitude is null then 'no_coordinates'
            when listed.coordinate_decimals < {{ var('funding_coordinate_decimals') }} then 'coordinates_are_rough'
            when listed.is_elsewhere then 'coordinates_in_another_lga'
            when coalesce(near.reachable_count, 0) = 0 then 'no_site_near'
            when near.near_count = 0 then 'site_not_near_enough'
            when near.near_count > 1 then 'several_sites_near'
        end as reason,
        near.near_site_key
    from listed
    left join claimed on claimed.asset_id = listed.asset_id
    left join near on near.asset_id = listed.asset_id

),

verdicts as (

    select
        asset_id,
        program,
        round,
        reason,
        -- Whether the EVSEs that were said are taken for the funded ones.
        reason is null and (is_decided or has_id) or reason in ('id_is_far_away', 'decided_evse_not_found')
            as is_claim_taken,
        case when reason is null and not is_decided and not has_id then near_site_key end as near_site_key
    from judged

)

select
    asset_id,
    program,
    round,
    reason,
    coalesce(is_claim_taken, false) as is_claim_taken,
    near_site_key
from verdicts
