{{ config(materialized='view') }}

with exclusions as (

    select * from {{ ref('dim_exclusion') }}

),

excluded as (

    select * from {{ ref('int_evse__excluded_daily') }}

),

rule_sets as (

    select * from {{ ref('rule_sets') }}

),

rule_set_exclusions as (

    select * from {{ ref('rule_set_exclusions') }}

),

summed as (

    select
        exclusion_id,
        rule_set,
        rule_set_version,
        sum(covered_seconds) as covered_seconds,
        sum(seconds) as excluded_seconds
    from excluded
    group by exclusion_id, rule_set, rule_set_version

),

effects as (

    select
        exclusions.exclusion_id,
        exclusions.evse_key,
        rule_sets.rule_set,
        rule_sets.rule_set_version,
        exclusions.decision = 'approved' and rule_set_exclusions.category is not null as is_accepted,
        coalesce(summed.covered_seconds, 0)::bigint as covered_seconds,
        coalesce(summed.excluded_seconds, 0)::bigint as excluded_seconds
    from exclusions
    cross join rule_sets
    left join rule_set_exclusions
        on rule_set_exclusions.rule_set = rule_sets.rule_set
            and rule_set_exclusions.rule_set_version = rule_sets.rule_set_version
            and rule_set_exclusions.category = exclusions.category
    left join summed
        on summed.exclusion_id = exclusions.exclusion_id
            and summed.rule_set = rule_sets.rule_set
            and summed.rule_set_version = rule_sets.rule_set_version

)

select * from effects
