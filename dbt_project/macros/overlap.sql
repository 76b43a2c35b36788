{# A status's place in a mix: a mix of statuses is the sum of their bits. Null: time in it is not in service. -#}
{% macro status_bit(status) -%}
    case {{ status }}
        {%- for in_service_status in in_service_statuses() %}
        when '{{ in_service_status }}' then {{ 2 ** loop.index0 }}
        {%- endfor %}
    end
{%- endmacro %}

{# Days of a level (charger, site) whose EVSEs' spans, or whose EVSEs, are not those of the last run. -#}
{% macro touched_days_of(level) -%}
with touched as (

    select * from {{ ref('int_evse__touched_days') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

versions as (

    select * from {{ ref('stg_asset_version') }}

),

spans as (

    select * from {{ ref('int_evse__status_span') }}

),

versions_before as (

    select * from versions
    where not {{ is_new('valid_from') }}

),

described_before as (

    {{ evse_descriptions('versions_before') }}

),

-- All days of an EVSE that is described at another place than before.
moved as (

    select distinct
        spans.evse_key,
        spans.local_date
    from described_before
    inner join services
        on services.evse_key = described_before.evse_key
            and services.{{ level }}_key <> described_before.{{ level }}_key
    inner join spans on spans.evse_key = services.evse_key

),

evse_days as (

    select evse_key, local_date from touched
    union
    select evse_key, local_date from moved

),

-- Where it was lacks it now, where it is has it now.
places as (

    select evse_key, {{ level }}_key from services
    union
    select evse_key, {{ level }}_key from described_before

),

days as (

    select distinct
        places.{{ level }}_key,
        evse_days.local_date
    from evse_days
    inner join places on places.evse_key = evse_days.evse_key

)

select * from days
{%- endmacro %}

{% macro delete_touched_days_of(level) -%}
    {% if is_incremental() -%}
        delete from {{ this }} as old
        using {{ ref('int_' ~ level ~ '__touched_days') }} as touched
        where old.{{ level }}_key = touched.{{ level }}_key and old.local_date = touched.local_date
    {%- endif %}
{%- endmacro %}

{# The EVSEs of a level laid over each other: for how long which statuses were there at once. -#}
{% macro status_mix(level) -%}
with touched as (

    select * from {{ ref('int_' ~ level ~ '__touched_days') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

spans as not materialized (

    select * from {{ ref('int_evse__status_span') }}

),

-- Read twice: cheaper than to keep a copy.
touched_spans as not materialized (

    select
        touched.{{ level }}_key,
        spans.evse_key,
        spans.local_date,
        spans.span_from,
        spans.span_until,
        spans.status
    from touched
    inner join evses on evses.{{ level }}_key = touched.{{ level }}_key
    inner join spans on spans.evse_key = evses.evse_key and spans.local_date = touched.local_date

),

-- Something changes where a span begins, and where an EVSE's last one of the day ends: the others end where the next begins.
points as (

    select
        {{ level }}_key,
        local_date,
        span_from as point_at,
        span_until,
        status
    from touched_spans

    union all

    select
        {{ level }}_key,
        local_date,
        max(span_until),
        null,
        null
    from touched_spans
    group by {{ level }}_key, evse_key, local_date

),

-- A status is there while some span of it that began has not ended.
stretches as (

    select
        {{ level }}_key,
        local_date,
        point_at as stretch_from,
        lead(point_at) over until_now as stretch_until,
        {%- for status in in_service_statuses() %}
        max(span_until) filter (where status = '{{ status }}') over until_now as {{ status }}_until{{ ',' if not loop.last }}
        {%- endfor %}
    from points
    window until_now as (
        partition by {{ level }}_key, local_date
        -- Of points at one instant all but the last are followed by nothing: their order does not matter.
        order by point_at
        rows between unbounded preceding and current row
    )

),

mixed as (

    select
        {{ level }}_key,
        local_date,
        {% for status in in_service_statuses() -%}
        case when {{ status }}_until > stretch_from then {{ 2 ** loop.index0 }} else 0 end
        {{- ' + ' if not loop.last }}
        {% endfor -%}
        as mix,
        stretch_from,
        stretch_until
    from stretches
    where stretch_from < stretch_until

),

daily as (

    select
        {{ level }}_key,
        local_date,
        date_trunc('month', local_date)::date as local_month,
        mix,
        -- As double precision, which is exact here: a numeric one costs several times as much.
        sum(date_part('epoch', stretch_until - stretch_from))::integer as seconds
    from mixed
    group by {{ level }}_key, local_date, mix
    -- Nobody in service.
    having mix > 0

)

select * from daily
{%- endmacro %}

{# Mixes of a level judged by every rule-set. A ratio is of the time that is known one way or the other. -#}
{% macro overlap_mart(level, period) -%}
{%- set place_keys = {'charger': ['charger_key', 'site_key', 'cpo_key'], 'site': ['site_key', 'cpo_key']}[level] -%}
with mixes as (

    select * from {{ ref('int_' ~ level ~ '__status_mix_daily') }}

),

places as (

    select * from {{ ref('dim_' ~ level) }}

),

rule_set_statuses as (

    select * from {{ ref('rule_set_statuses') }}

),

canonical_statuses as (

    select * from {{ ref('canonical_statuses') }}

),

rule_sets as (

    select
        rule_set_statuses.rule_set,
        rule_set_statuses.rule_set_version,
        {%- for name, condition in {
            'up': "rule_set_statuses.class = 'up'",
            'down': "rule_set_statuses.class = 'down'",
            'idle': "rule_set_statuses.class = 'up' and not rule_set_statuses.is_in_use",
            'not_known': "canonical_statuses.kind = 'not_known'",
        }.items() %}
        coalesce(sum({{ status_bit('rule_set_statuses.status') }}) filter (where {{ condition }}), 0)::integer as {{ name }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from rule_set_statuses
    inner join canonical_statuses on canonical_statuses.status = rule_set_statuses.status
    group by rule_set_statuses.rule_set, rule_set_statuses.rule_set_version

),

-- By all of the keys, so that who asks for one of them has only its rows computed.
pooled as (

    select
        {%- for key in place_keys %}
        places.{{ key }},
        {%- endfor %}
        mixes.{{ period }},
        mixes.mix,
        sum(mixes.seconds) as seconds
    from mixes
    inner join places on places.{{ level }}_key = mixes.{{ level }}_key
    group by
        {%- for key in place_keys %}
        places.{{ key }},
        {%- endfor %}
        mixes.{{ period }},
        mixes.mix

),

-- Headline, and with what is not known taken as down (lower) and as up (upper).
judged as (

    select
        pooled.*,
        rule_sets.rule_set,
        rule_sets.rule_set_version,
        rule_sets.up,
        rule_sets.down,
        rule_sets.idle,
        rule_sets.up & ~rule_sets.not_known as lower_up,
        rule_sets.down | rule_sets.not_known as lower_down,
        rule_sets.up | rule_sets.not_known as upper_up,
        rule_sets.down & ~rule_sets.not_known as upper_down
    from pooled
    cross join rule_sets

),

laid_over as (

    select
        {{ place_keys | join(', ') }},
        {{ period }},
        rule_set,
        rule_set_version,
        sum(seconds)::bigint as in_service_seconds,
        {%- for bound in ['', 'lower_', 'upper_'] %}
        coalesce(sum(seconds) filter (where mix & {{ bound }}up <> 0), 0)::bigint as {{ bound }}any_up_seconds,
        coalesce(sum(seconds) filter (where mix & ~{{ bound }}up = 0), 0)::bigint as {{ bound }}all_up_seconds,
        coalesce(sum(seconds) filter (where mix & {{ bound }}down <> 0), 0)::bigint as {{ bound }}any_down_seconds,
        coalesce(sum(seconds) filter (where mix & ~{{ bound }}down = 0), 0)::bigint as {{ bound }}all_down_seconds,
        {%- endfor %}
        coalesce(sum(seconds) filter (where mix & up <> 0 and mix & idle = 0), 0)::bigint as congested_seconds
    from judged
    group by {{ place_keys | join(', ') }}, {{ period }}, rule_set, rule_set_version

)

select
    {{ place_keys | join(', ') }},
    {{ period }},
    rule_set,
    rule_set_version,
    in_service_seconds,
    any_up_seconds,
    all_up_seconds,
    any_down_seconds,
    all_down_seconds,
    congested_seconds,
    {%- for ratio_name, up, down in [('any_up', 'any_up', 'all_down'), ('all_up', 'all_up', 'any_down')] %}
    {%- for bound in ['', 'lower_', 'upper_'] %}
    {{ ratio(
        bound ~ up ~ '_seconds',
        bound ~ up ~ '_seconds + ' ~ bound ~ down ~ '_seconds',
    ) }} as {{ ratio_name }}_{{ bound }}ratio,
    {%- endfor %}
    {%- endfor %}
    {{ ratio('congested_seconds', 'any_up_seconds') }} as congested_ratio
from laid_over
{%- endmacro %}
