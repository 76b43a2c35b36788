{% test unique_combination(model, columns) %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

{# Statuses of touched days are canonical ones. -#}
{% test touched_statuses_are_canonical(model, column_name) %}
select computed.*
from ({{ touched_rows(model) }}) as computed
where computed.{{ column_name }} not in (select status from {{ ref('canonical_statuses') }})
{% endtest %}

{# What must hold on every row of an uptime mart, whatever the rule-set. Of touched days the last two are read (their seconds are those of the
   months), of touched months all. -#}
{% test uptime_is_consistent(model, period) %}
select *
from {{ model }}
where {{ period }} = any(array(
        select distinct
            {{ "local_date" if period == "local_date" else "date_trunc('month', local_date)::date" }}
        from {{ ref('int_evse__touched_days') }}
        order by 1 desc
        {{ "limit 2" if period == "local_date" }}
    ))
    and (in_service_seconds <= 0
    or in_service_seconds <> {% for status in in_service_statuses() %}{{ status }}_seconds{{ ' + ' if not loop.last }}{% endfor %}
    or in_service_seconds <> up_seconds + down_seconds + excluded_seconds + not_measured_seconds
    or measured_seconds <> in_service_seconds - not_measured_seconds
    or uptime_lower_ratio > uptime_ratio
    or uptime_upper_ratio < uptime_ratio
    or uptime_ratio not between 0 and 1
    or (rule_set = 'evc_2025' and up_seconds + down_seconds <> measured_seconds))
{% endtest %}
