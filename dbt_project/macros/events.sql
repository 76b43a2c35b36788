{# Statuses that say that nothing is known of an EVSE: no contact, or a CPO that cannot reach it. -#}
{% macro not_known_statuses() -%}
    ('unknown', 'missing')
{%- endmacro %}

{# Statuses that say nothing but that an EVSE is there: neither a use nor a trouble that somebody told. -#}
{% macro idle_statuses() -%}
    ('available', 'unknown', 'missing')
{%- endmacro %}

{# Delete the events of an incremental model that this run computes anew: those that begin at or after the restart of their EVSE.
   Looked up by index for each EVSE, as in `spans_since`, and then deleted by their place in the table: a join would read all of it. -#}
{% macro delete_events(begin) -%}
    {% if is_incremental() -%}
        delete from {{ this }}
        where ctid = any(array(
            select begun.ctid
            from {{ ref('int_evse__event_restart') }} as restarts
            cross join lateral (
                select ctid
                from {{ this }}
                where evse_key = restarts.evse_key and {{ begin }} >= restarts.events_from
                offset 0
            ) as begun
        ))
    {%- endif %}
{%- endmacro %}

{# The same for suspects, whose kinds are computed anew from different times on; those of feeds are few, and all are. -#}
{% macro delete_suspects() -%}
    {% if is_incremental() -%}
        delete from {{ this }} where evse_key is null;
        delete from {{ this }} as old
        using {{ ref('int_evse__event_restart') }} as restarts
        where old.evse_key = restarts.evse_key
            and old.suspect_from >= case old.kind
                when 'zombie' then restarts.idle_from
                when 'flapping' then restarts.events_day_from
            end
    {%- endif %}
{%- endmacro %}

{# Spans of the restarted EVSEs from which events are computed. The offset keeps it one look into the index per EVSE: the planner takes a comparison with
   a column for a third of all history. -#}
{% macro spans_since_restart(condition) -%}
    select spans.*
    from restarts
    cross join lateral (
        select *
        from {{ ref('int_evse__status_span') }}
        where evse_key = restarts.evse_key and span_from >= restarts.events_from and {{ condition }}
        offset 0
    ) as spans
{%- endmacro %}

{# Since when the feed had said nothing when a second began: the latest contact before it, or the latest observation of the EVSE itself. A stream that was held
   into that second says: since then. -#}
{% macro last_heard(feed_key, evse_key, before) -%}
    greatest(
        (
            select least(contacts.contact_until, {{ before }})
            from {{ ref('stg_feed_contact') }} as contacts
            where contacts.feed_key = {{ feed_key }}
                and contacts.contact_from_exact < {{ before }}
                and contacts.outcome in ('complete', 'alive')
            order by contacts.contact_from_exact desc
            limit 1
        ),
        -- Of stretches that overlap the one that began last is not always the one that lasts.
        (
            select {{ whole_second('least(lines.line_until, ' ~ before ~ ')') }}
            from {{ ref('int_feed__lifelines') }} as lines
            where lines.feed_key = {{ feed_key }}
                and lines.kind = 'held'
                and lines.line_from < {{ before }}
            order by lines.line_from desc
            limit 1
        ),
        (
            select changes.observed_at
            from {{ ref('stg_status_change') }} as changes
            where changes.evse_key = {{ evse_key }}
                and changes.observed_at_exact < {{ before }}
                and changes.status_word is not null
            order by changes.observed_at_exact desc
            limit 1
        )
    )
{%- endmacro %}

{# Outages of EVSEs in a month, pooled over the EVSEs of a level. -#}
{% macro outage_mart(level) -%}
    {%- set keys = {
        'charger': ['charger_key', 'site_key', 'cpo_key'],
        'site': ['site_key', 'cpo_key'],
    }[level] -%}
with monthly as (

    select * from {{ ref('fct_evse_outage_monthly') }}

),

pooled as (

    select
        {%- for key in keys %}
        {{ key }},
        {%- endfor %}
        local_month,
        rule_set,
        rule_set_version,
        count(*)::integer as evse_count,
        sum(outage_count)::integer as outage_count,
        sum(overlapping_outage_count)::integer as overlapping_outage_count,
        sum(outage_seconds)::bigint as outage_seconds,
        max(longest_outage_seconds) as longest_outage_seconds,
        sum(repaired_count)::integer as repaired_count,
        sum(repair_seconds)::bigint as repair_seconds,
        {{ mean_seconds('sum(repair_seconds)', 'sum(repaired_count)') }} as mean_time_to_repair_seconds
    from monthly
    group by
        {%- for key in keys %}
        {{ key }},
        {%- endfor %}
        local_month,
        rule_set,
        rule_set_version

)

select * from pooled
{%- endmacro %}

{% macro mean_seconds(seconds, count) -%}
    round(({{ seconds }})::numeric / nullif({{ count }}, 0), 3)::numeric(14, 3)
{%- endmacro %}
