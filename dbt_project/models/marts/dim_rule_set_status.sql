{{ config(materialized='view') }}

with rule_sets as (

    select * from {{ ref('rule_sets') }}

),

rule_set_statuses as (

    select * from {{ ref('rule_set_statuses') }}

)

select
    rule_set_statuses.rule_set,
    rule_set_statuses.rule_set_version,
    rule_set_statuses.status,
    rule_set_statuses.class,
    rule_set_statuses.is_in_use,
    rule_sets.formula,
    rule_sets.target_ratio,
    rule_sets.target_comparison,
    rule_sets.description
from rule_set_statuses
inner join rule_sets
    on rule_sets.rule_set = rule_set_statuses.rule_set
        and rule_sets.rule_set_version = rule_set_statuses.rule_set_version
