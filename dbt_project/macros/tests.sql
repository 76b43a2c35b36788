{% test unique_combination(model, columns) %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

{# What must hold on every row of an uptime mart, whatever the rule-set. -#}
{% test uptime_is_consistent(model) %}
select *
from {{ model }}
where in_service_seconds <= 0
    or in_service_seconds <> {% for status in in_service_statuses() %}{{ status }}_seconds{{ ' + ' if not loop.last }}{% endfor %}
    or in_service_seconds <> up_seconds + down_seconds + excluded_seconds + not_measured_seconds
    or measured_seconds <> in_service_seconds - not_measured_seconds
    or uptime_lower_ratio > uptime_ratio
    or uptime_upper_ratio < uptime_ratio
    or uptime_ratio not between 0 and 1
    or (rule_set = 'evc_2025' and up_seconds + down_seconds <> measured_seconds)
{% endtest %}
