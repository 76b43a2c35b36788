-- A status without a class would silently leave the sums.
with expected as (

    select
        rule_sets.rule_set,
        rule_sets.rule_set_version,
        canonical_statuses.status
    from {{ ref('rule_sets') }} as rule_sets
    cross join {{ ref('canonical_statuses') }} as canonical_statuses

)

select
    expected.*,
    count(rule_set_statuses.status) as row_count
from expected
left join {{ ref('rule_set_statuses') }} as rule_set_statuses
    on rule_set_statuses.rule_set = expected.rule_set
        and rule_set_statuses.rule_set_version = expected.rule_set_version
        and rule_set_statuses.status = expected.status
group by expected.rule_set, expected.rule_set_version, expected.status
having count(rule_set_statuses.status) <> 1
    or bool_or(rule_set_statuses.class = 'not_in_service') <> (expected.status in ('planned', 'removed'))
