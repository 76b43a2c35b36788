{# Statuses that in-service time can be in: all but planned and removed. -#}
{% macro in_service_statuses() -%}
    {{ return([
        'available', 'charging', 'finishing', 'preparing', 'suspended', 'reserved', 'unavailable', 'out_of_order',
        'blocked', 'blocked_by_sibling', 'inoperative', 'unknown', 'missing',
    ]) }}
{%- endmacro %}

{# Statuses that an EVSE is in as far as its own feed tells, also out of service. -#}
{% macro told_statuses() -%}
    {{ return((in_service_statuses() | reject('equalto', 'blocked_by_sibling') | list) + ['planned', 'removed']) }}
{%- endmacro %}

{# Sums of a pool of EVSE-seconds. Expects a relation `classified`: seconds by status and the class that a rule-set gives them. -#}
{% macro class_sums() -%}
        sum(classified.seconds)::bigint as in_service_seconds,
        coalesce(sum(classified.seconds) filter (where classified.class = 'up'), 0)::bigint as up_seconds,
        coalesce(sum(classified.seconds) filter (where classified.class = 'down'), 0)::bigint as down_seconds,
        coalesce(sum(classified.seconds) filter (where classified.class = 'excluded'), 0)::bigint as excluded_seconds,
        coalesce(sum(classified.seconds) filter (where classified.class = 'not_measured'), 0)::bigint
            as not_measured_seconds,
        coalesce(sum(classified.seconds) filter (where classified.is_in_use), 0)::bigint as in_use_seconds,
        {%- for status in in_service_statuses() %}
        coalesce(sum(classified.seconds) filter (where classified.status = '{{ status }}'), 0)::bigint as {{ status }}_seconds,
        {%- endfor %}
        -- What we do not know, by the class that the rule-set gives it: the bounds move it.
        coalesce(sum(classified.seconds) filter (where classified.status in ('unknown', 'missing')), 0) as not_known,
        coalesce(sum(classified.seconds) filter (
            where classified.status in ('unknown', 'missing') and classified.class = 'up'
        ), 0) as not_known_up,
        coalesce(sum(classified.seconds) filter (
            where classified.status in ('unknown', 'missing') and classified.class = 'down'
        ), 0) as not_known_down,
        coalesce(sum(classified.seconds) filter (
            where classified.status in ('unknown', 'missing') and classified.class = 'not_measured'
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

{# How many of the bits 0 to 11 are set. -#}
{% macro count_of_bits(bits) -%}
    bit_count({{ bits }}::bit(12))::integer
{%- endmacro %}

{# A whole uptime mart: seconds pooled over the EVSEs of a level and judged by every rule-set.
   `period` is what a row is about: local_date, local_month, rolling_12_months (those that end with local_month) or year. -#}
{% macro uptime_mart(level, period) -%}
    {%- set keys = {
        'connector': ['connector_key', 'evse_key', 'charger_key', 'site_key', 'cpo_key'],
        'evse': ['evse_key', 'charger_key', 'site_key', 'cpo_key'],
        'charger': ['charger_key', 'site_key', 'cpo_key'],
        'site': ['site_key', 'cpo_key'],
        'group': ['grouping', 'group_id', 'group_name', 'cpo_key', 'minimum_power_kw'],
    }[level] -%}
    {#- A connector inherits the time of its EVSE; everything else pools each EVSE once. -#}
    {%- set unit_keys = keys if level == 'connector' else ['evse_key', 'charger_key', 'site_key', 'cpo_key'] -%}
    {%- set has_months = period in ('rolling_12_months', 'year') -%}
    {%- set period_column = {'rolling_12_months': 'local_month', 'year': 'local_year'}.get(period, period) -%}
    {%- set counts = {'charger': ['evse_count'], 'site': ['evse_count'], 'group': ['evse_count', 'site_count']}.get(level, []) -%}
    {%- set counts = counts + (['month_count'] if has_months else []) -%}
with facts as (

    select * from {{ ref('fct_evse_status_daily' if period == 'local_date' else 'int_evse__status_monthly') }}

),

excluded_facts as (

    select * from {{ ref('int_evse__excluded_daily') }}

),

-- What is read twice would be copied, and the copy not filtered by what is asked for.
places as not materialized (

    select * from {{ ref('dim_connector' if level == 'connector' else 'dim_evse') }}

),

{% if level == 'group' -%}
groupings as not materialized (

    select * from {{ ref('int_evse__grouping') }}

),

{% endif -%}
{% if has_months -%}
months as not materialized (

    select * from {{ ref('int_period__months') }}
    where period = '{{ period }}'

),

{% endif -%}
rule_sets as (

    select * from {{ ref('rule_sets') }}

),

rule_set_statuses as not materialized (

    select * from {{ ref('rule_set_statuses') }}

),

units as (

    select
        {%- for key in unit_keys %}
        places.{{ key }},
        {%- endfor %}
        {{ 'months.period_date' if has_months else 'facts.' ~ period }} as {{ period_column }},
        {%- if has_months %}
        -- A set of months, so that the sets of a pool can be united.
        bit_or(1 << months.month_number) as month_bits,
        {%- endif %}
        {%- for status in in_service_statuses() %}
        coalesce(sum(facts.seconds) filter (where facts.status = '{{ status }}'), 0) as {{ status }}_seconds
        {{- ',' if not loop.last }}
        {%- endfor %}
    from facts
    inner join places on places.evse_key = facts.evse_key
    {%- if has_months %}
    inner join months on months.local_month = facts.local_month
    {%- endif %}
    group by
        {%- for key in unit_keys %}
        places.{{ key }},
        {%- endfor %}
        {{ 'months.period_date' if has_months else 'facts.' ~ period }}

),

pools as (

    select
        {%- for key in keys %}
        {{ 'groupings' if level == 'group' else 'units' }}.{{ key }},
        {%- endfor %}
        units.{{ period_column }},
        {%- if 'evse_count' in counts %}
        count(*) as evse_count,
        {%- endif %}
        {%- if 'site_count' in counts %}
        count(distinct units.site_key) as site_count,
        {%- endif %}
        {%- if 'month_count' in counts %}
        {{ count_of_bits('bit_or(units.month_bits)') }} as month_count,
        {%- endif %}
        {%- for status in in_service_statuses() %}
        sum(units.{{ status }}_seconds) as {{ status }}_seconds{{ ',' if not loop.last }}
        {%- endfor %}
    from units
    {%- if level == 'group' %}
    inner join groupings on groupings.evse_key = units.evse_key
    {%- endif %}
    group by
        {%- for key in keys %}
        {{ 'groupings' if level == 'group' else 'units' }}.{{ key }},
        {%- endfor %}
        units.{{ period_column }}

),

told as (

    select
        pools.*,
        listed.status,
        listed.seconds
    from pools
    cross join lateral (
        values
            {%- for status in in_service_statuses() %}
            ('{{ status }}', pools.{{ status }}_seconds){{ ',' if not loop.last }}
            {%- endfor %}
    ) as listed (status, seconds)
    where listed.seconds > 0

),

excluded as (

    select
        {%- for key in keys %}
        {{ 'groupings' if level == 'group' else 'places' }}.{{ key }},
        {%- endfor %}
        {{ 'months.period_date' if has_months else 'excluded_facts.' ~ period }} as {{ period_column }},
        excluded_facts.rule_set,
        excluded_facts.rule_set_version,
        excluded_facts.status,
        sum(excluded_facts.seconds) as seconds
    from excluded_facts
    inner join places on places.evse_key = excluded_facts.evse_key
    {%- if level == 'group' %}
    inner join groupings on groupings.evse_key = excluded_facts.evse_key
    {%- endif %}
    {%- if has_months %}
    inner join months on months.local_month = excluded_facts.local_month
    {%- endif %}
    group by
        {%- for key in keys %}
        {{ 'groupings' if level == 'group' else 'places' }}.{{ key }},
        {%- endfor %}
        {{ 'months.period_date' if has_months else 'excluded_facts.' ~ period }},
        excluded_facts.rule_set,
        excluded_facts.rule_set_version,
        excluded_facts.status

),

classified as (

    select
        {%- for key in keys + [period_column] + counts %}
        told.{{ key }},
        {%- endfor %}
        rule_set_statuses.rule_set,
        rule_set_statuses.rule_set_version,
        rule_set_statuses.status,
        rule_set_statuses.class,
        rule_set_statuses.is_in_use,
        told.seconds
    from told
    inner join rule_set_statuses on rule_set_statuses.status = told.status

    union all

    -- Time that an entry of the register covers leaves the class of its status for `excluded`; it stays time in its status.
    select
        {%- for key in keys + [period_column] %}
        excluded.{{ key }},
        {%- endfor %}
        {%- for count in counts %}
        null as {{ count }},
        {%- endfor %}
        excluded.rule_set,
        excluded.rule_set_version,
        excluded.status,
        moved.class,
        false as is_in_use,
        moved.seconds
    from excluded
    inner join rule_set_statuses
        on rule_set_statuses.rule_set = excluded.rule_set
            and rule_set_statuses.rule_set_version = excluded.rule_set_version
            and rule_set_statuses.status = excluded.status
    cross join lateral (
        values (rule_set_statuses.class, -excluded.seconds), ('excluded', excluded.seconds)
    ) as moved (class, seconds)

),

pooled as (

    select
        {%- for key in keys + [period_column] %}
        classified.{{ key }},
        {%- endfor %}
        classified.rule_set,
        classified.rule_set_version,
        {%- for count in counts %}
        max(classified.{{ count }})::integer as {{ count }},
        {%- endfor %}
        {{ class_sums() }}
    from classified
    group by
        {%- for key in keys + [period_column] %}
        classified.{{ key }},
        {%- endfor %}
        classified.rule_set,
        classified.rule_set_version

),

judged as (

    select
        {%- for key in keys + [period_column, 'rule_set', 'rule_set_version'] + counts %}
        pooled.{{ key }},
        {%- endfor %}
        {{ uptime_columns() }}
    from pooled
    inner join rule_sets
        on rule_sets.rule_set = pooled.rule_set
            and rule_sets.rule_set_version = pooled.rule_set_version
            {%- if level == 'group' %}
            and pooled.minimum_power_kw =
            case when pooled.grouping in ('all', 'cpo') then rule_sets.minimum_power_kw else 0 end
            {%- endif %}

)

select * from judged
{%- endmacro %}
