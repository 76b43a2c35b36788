{{ config(materialized='view') }}

with evses as (

    select * from {{ ref('dim_evse') }}

),

sites as (

    select * from {{ ref('dim_site') }}

),

cpos as (

    select * from {{ ref('dim_cpo') }}

),

fundings as (

    select * from {{ ref('dim_evse_funding') }}

),

power_bands as (

    select * from {{ ref('power_bands') }}

),

rule_sets as (

    select * from {{ ref('rule_sets') }}

),

described as (

    select
        evses.evse_key,
        evses.cpo_key,
        evses.power_kw,
        cpos.cpo_id,
        cpos.cpo_name,
        sites.state,
        sites.postcode,
        coalesce(sites.lga_code, sites.lga_name) as lga_id,
        sites.lga_name,
        evses.power_band,
        power_bands.description as power_band_name,
        case when fundings.evse_key is null then 'not_funded' else 'funded' end as funding_id,
        case when fundings.evse_key is null then 'not funded' else 'funded' end as funding_name,
        case
            when fundings.evse_key is null then 'not_funded'
            else nullif(concat_ws('/', fundings.program, fundings.round), '')
        end as round_id,
        case
            when fundings.evse_key is null then 'not funded'
            else nullif(concat_ws(', round ', fundings.program, fundings.round), '')
        end as round_name
    from evses
    inner join sites on sites.site_key = evses.site_key
    inner join cpos on cpos.cpo_key = evses.cpo_key
    left join fundings on fundings.evse_key = evses.evse_key
    left join power_bands on power_bands.power_band = evses.power_band

),

-- Every EVSE is in one group of each grouping: what is not stated is a group too, so that the groups add up.
grouped as (

    select
        described.evse_key,
        described.power_kw,
        listed.grouping,
        coalesce(listed.group_id, 'not_stated') as group_id,
        coalesce(listed.group_name, listed.group_id, 'not stated') as group_name,
        listed.cpo_key
    from described
    cross join lateral (
        values
            ('all', 'all', 'all', null::integer),
            ('cpo', cpo_id, cpo_name, cpo_key),
            ('state', state, state, null),
            ('lga', lga_id, lga_name, null),
            ('postcode', postcode, postcode, null),
            ('power_band', power_band, power_band_name, null),
            ('funding', funding_id, funding_name, null),
            ('program_round', round_id, round_name, null),
            ('cpo_state', state, state, cpo_key),
            ('cpo_funding', funding_id, funding_name, cpo_key),
            ('cpo_program_round', round_id, round_name, cpo_key)
    ) as listed (grouping, group_id, group_name, cpo_key)

),

minimums as (

    select distinct minimum_power_kw
    from rule_sets
    where minimum_power_kw > 0

),

-- A rule that is about powerful chargers judges the part of a network that has the power; elsewhere it judges all, as every other one.
pools as (

    select
        evse_key,
        grouping,
        group_id,
        group_name,
        cpo_key,
        0::numeric(9, 3) as minimum_power_kw
    from grouped

    union all

    select
        grouped.evse_key,
        grouped.grouping,
        grouped.group_id,
        grouped.group_name,
        grouped.cpo_key,
        minimums.minimum_power_kw
    from grouped
    inner join minimums on grouped.power_kw >= minimums.minimum_power_kw
    where grouped.grouping in ('all', 'cpo')

)

select * from pools
