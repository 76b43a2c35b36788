{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with assets as (

    select * from {{ ref('stg_funded_asset') }}

),

verdicts as (

    select * from {{ ref('int_funding__verdict') }}

),

site_verdicts as (

    select * from {{ ref('int_funding__site') }}

),

claims as (

    select * from {{ ref('int_funding__claim') }}

),

matched as (

    select * from {{ ref('int_funding__match') }}

),

candidates as (

    select * from {{ ref('int_funding__candidate') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

places as (

    select
        site_key,
        count(distinct charger_key) as charger_count,
        string_agg(evse_id, ' ' order by evse_id) as evse_ids
    from services
    group by site_key

),

-- Listed twice, or decided for one row and claimed by another.
lost as (

    select distinct claims.asset_id
    from claims
    inner join verdicts on verdicts.asset_id = claims.asset_id and verdicts.is_claim_taken
    inner join matched on matched.evse_key = claims.evse_key and matched.asset_id <> claims.asset_id

),

judged as (

    select
        verdicts.asset_id,
        coalesce(
            verdicts.reason,
            site_verdicts.reason,
            case when lost.asset_id is not null then 'evse_of_another_row' end
        ) as reason,
        coalesce(site_verdicts.is_matched, false)
        or exists (select from matched where matched.asset_id = verdicts.asset_id) as is_matched
    from verdicts
    left join site_verdicts on site_verdicts.site_key = verdicts.near_site_key
    left join lost on lost.asset_id = verdicts.asset_id

),

reviewed as (

    select
        assets.asset_id,
        assets.line as list_line,
        judged.reason,
        judged.is_matched,
        assets.cpo_name,
        assets.evse_id,
        assets.evse_port_id,
        assets.address,
        assets.suburb,
        assets.postcode,
        assets.lga_name,
        assets.state,
        assets.latitude,
        assets.longitude,
        assets.program,
        assets.round,
        candidates.site_key as candidate_site_key,
        candidates.distance_m as candidate_distance_m,
        places.charger_count::integer as candidate_charger_count,
        places.evse_ids as candidate_evse_ids
    from judged
    inner join assets on assets.asset_id = judged.asset_id
    left join candidates on candidates.asset_id = judged.asset_id
    left join places on places.site_key = candidates.site_key
    where judged.reason is not null

)

select * from reviewed
