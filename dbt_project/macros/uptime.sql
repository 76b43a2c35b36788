{# Statuses that in-service time can be in: all but planned and removed. -#}
{% macro in_service_statuses() -%}
    {{ return([
        'available', 'charging', 'finishing', 'preparing', 'suspended', 'reserved', 'unavailable', 'out_of_order',
        'blocked', 'inoperative', 'unknown', 'missing',
    ]) }}
{%- endmacro %}

{# Sums of a pool of EVSE-seconds. Expects relations `facts` (seconds by status) and `rule_set_statuses` joined on status. -#}
{% macro class_sums() -%}
        sum(facts.seconds)::bigint as in_service_seconds,
        coalesce(sum(facts.seconds) filter (where rule_set_statuses.class = 'up'), 0)::bigint as up_seconds,
        coalesce(sum(facts.seconds) filter (where rule_set_statuses.class = 'down'), 0)::bigint as down_seconds,
        coalesce(sum(facts.seconds) filter (where rule_set_statuses.class = 'excluded'), 0)::bigint as excluded_seconds,
        coalesce(sum(facts.seconds) filter (where rule_set_statuses.class = 'not_measured'), 0)::bigint
            as not_measured_seconds,
        coalesce(sum(facts.seconds) filter (where rule_set_statuses.is_in_use), 0)::bigint as in_use_seconds,
        {%- for status in in_service_statuses() %}
        coalesce(sum(facts.seconds) filter (where facts.status = '{{ status }}'), 0)::bigint as {{ status }}_seconds,
        {%- endfor %}
        -- What we do not know, by the class that the rule-set gives it: the bounds move it.
        coalesce(sum(facts.seconds) filter (where facts.status in ('unknown', 'missing')), 0) as not_known,
        coalesce(sum(facts.seconds) filter (
            where facts.status in ('unknown', 'missing') and rule_set_statuses.class = 'up'
        ), 0) as not_known_up,
        coalesce(sum(facts.seconds) filter (
            where facts.status in ('unknown', 'missing') and rule_set_statuses.class = 'down'
        ), 0) as not_known_down,
        coalesce(sum(facts.seconds) filter (
            where facts.status in ('unknown', 'missing') and rule_set_statuses.class = 'not_measured'
        ), 0) as not_known_not_measured
{%- endmacro %}

{# Ratios from those sums and the rule-set's formula. Expects relations `pooled` and `rule_sets`. The numerators: -#}
{% macro numerator(up, down) -%}
    case rule_sets.formula
        when 'up_over_measured' then {{ up }}
        when 'not_down_over_measured' then {{ down }}
    end
{%- endmacro %}

{% macro ratio(numerator, denominator) -%}
    round(({{ numerator }})::numeric / nullif({{ denominator }}, 0), 10)::numeric(11, 10)
{%- endmacro %}

{% macro uptime_columns() -%}
    {%- set measured = 'pooled.in_service_seconds - pooled.not_measured_seconds' -%}
    {%- set widest = 'pooled.in_service_seconds - pooled.not_measured_seconds + pooled.not_known_not_measured' -%}
    {%- set headline = numerator('pooled.up_seconds', measured ~ ' - pooled.down_seconds') -%}
        pooled.in_service_seconds,
        ({{ measured }})::bigint as measured_seconds,
        pooled.up_seconds,
        pooled.down_seconds,
        pooled.excluded_seconds,
        pooled.not_measured_seconds,
        pooled.in_use_seconds,
        {%- for status in in_service_statuses() %}
        pooled.{{ status }}_seconds,
        {%- endfor %}
        {%- for status in in_service_statuses() %}
        (pooled.{{ status }}_seconds / 60.0)::double precision as {{ status }}_minutes,
        {%- endfor %}
        {{ ratio(headline, measured) }} as uptime_ratio,
        {{ ratio(
            numerator(
                'pooled.up_seconds - pooled.not_known_up',
                widest ~ ' - (pooled.down_seconds - pooled.not_known_down + pooled.not_known)',
            ),
            widest,
        ) }} as uptime_lower_ratio,
        {{ ratio(
            numerator(
                'pooled.up_seconds - pooled.not_known_up + pooled.not_known',
                widest ~ ' - (pooled.down_seconds - pooled.not_known_down)',
            ),
            widest,
        ) }} as uptime_upper_ratio,
        {{ ratio(measured, 'pooled.in_service_seconds') }} as coverage_ratio,
        {{ ratio('pooled.in_use_seconds', measured) }} as utilisation_ratio,
        {{ ratio('pooled.down_seconds', measured) }} as unavailability_ratio,
        rule_sets.target_ratio,
        rule_sets.target_comparison,
        -- Compared before any rounding: 97.00 % is not more than 97 %.
        case
            when {{ measured }} = 0 then 'not_measured'
            when rule_sets.target_comparison = 'gt'
                then case
                    when ({{ headline }}) > rule_sets.target_ratio * ({{ measured }}) then 'met' else 'not_met'
                end
            else case
                when ({{ headline }}) >= rule_sets.target_ratio * ({{ measured }}) then 'met' else 'not_met'
            end
        end as target_result
{%- endmacro %}

{# A whole uptime mart: seconds of `facts` pooled over the EVSEs of a level and judged by every rule-set. -#}
{% macro uptime_mart(level, facts, period) -%}
    {%- set keys = {
        'connector': ['connector_key', 'evse_key', 'charger_key', 'site_key', 'cpo_key'],
        'charger': ['charger_key', 'site_key', 'cpo_key'],
        'site': ['site_key', 'cpo_key'],
    }[level] -%}
with facts as (

    select * from {{ ref(facts) }}

),

places as (

    -- A connector inherits the time of its EVSE; a charger and a site pool each EVSE once.
    select * from {{ ref('dim_connector' if level == 'connector' else 'dim_evse') }}

),

rule_sets as (

    select * from {{ ref('rule_sets') }}

),

rule_set_statuses as (

    select * from {{ ref('rule_set_statuses') }}

),

pooled as (

    select
        {%- for key in keys %}
        places.{{ key }},
        {%- endfor %}
        facts.{{ period }},
        rule_set_statuses.rule_set,
        rule_set_statuses.rule_set_version,
        {%- if level != 'connector' %}
        count(distinct places.evse_key)::integer as evse_count,
        {%- endif %}
        {{ class_sums() }}
    from facts
    inner join places on places.evse_key = facts.evse_key
    inner join rule_set_statuses on rule_set_statuses.status = facts.status
    group by
        {%- for key in keys %}
        places.{{ key }},
        {%- endfor %}
        facts.{{ period }},
        rule_set_statuses.rule_set,
        rule_set_statuses.rule_set_version

),

judged as (

    select
        {%- for key in keys %}
        pooled.{{ key }},
        {%- endfor %}
        pooled.{{ period }},
        pooled.rule_set,
        pooled.rule_set_version,
        {%- if level != 'connector' %}
        pooled.evse_count,
        {%- endif %}
        {{ uptime_columns() }}
    from pooled
    inner join rule_sets
        on rule_sets.rule_set = pooled.rule_set and rule_sets.rule_set_version = pooled.rule_set_version

)

select * from judged
{%- endmacro %}
