{# What a run is told of its time. A changed variable would have dbt parse the whole project anew at each run; these it reads when it runs. -#}
{% macro told_to_the_run(name) -%}
    {{ return(var(name) or dbt_metadata_envs.get(name, '')) }}
{%- endmacro %}

{# The run's cut-off, to the second: a constant, which costs nothing where millions of rows are compared with it. -#}
{% macro as_of() -%}
    {%- set told = told_to_the_run('as_of') or '1970-01-01T00:00:00+00:00' -%}
    '{{ modules.datetime.datetime.fromisoformat(told).replace(microsecond=0).isoformat() }}'::timestamptz
{%- endmacro %}

{# The second in which an instant lies. `date_bin` is arithmetic; `date_trunc` takes the instant apart by the calendar first. -#}
{% macro whole_second(instant) -%}
    date_bin('1 second', {{ instant }}, timestamptz 'epoch')
{%- endmacro %}

{# Rows recorded up to here have been worked into the marts by the last finished run. -#}
{% macro previous_as_of() -%}
    '{{ told_to_the_run("previous_as_of") or "-infinity" }}'::timestamptz
{%- endmacro %}

{# Whether the last finished run did not read a row: recorded later, or about a time that its cut-off had not reached. -#}
{% macro is_new(about, recorded_at='recorded_at') -%}
    ({{ recorded_at }} > {{ previous_as_of() }} or {{ about }} >= {{ previous_as_of() }})
{%- endmacro %}

{# Replace all rows and keep the table: swapping the table would take away, for a while, the views that stand on it. -#}
{% macro delete_all_rows() -%}
    {% if is_incremental() -%}
        delete from {{ this }}
    {%- endif %}
{%- endmacro %}

{# Rows of a model on touched days. A run from nothing touches every day: it need not look. -#}
{% macro touched_rows(relation) -%}
    {# Named outside of the condition: so dbt knows what the model waits for. -#}
    {% set touched_days = ref('int_evse__touched_days') -%}
    select computed.*
    from {{ relation }} as computed
    {%- if told_to_the_run('previous_as_of') %}
    inner join {{ touched_days }} as touched
        on touched.evse_key = computed.evse_key and touched.local_date = computed.local_date
    {%- endif %}
{%- endmacro %}

{# Delete the touched days of an incremental model, also those that will have no rows any more. -#}
{% macro delete_touched_days() -%}
    {# Named outside of the condition: so dbt knows what the model waits for. -#}
    {% set touched_days = ref('int_evse__touched_days') -%}
    {% if is_incremental() -%}
        delete from {{ this }} as old
        using {{ touched_days }} as touched
        where old.evse_key = touched.evse_key and old.local_date = touched.local_date
    {%- endif %}
{%- endmacro %}

{% macro delete_touched_months() -%}
    {% if is_incremental() -%}
        delete from {{ this }} as old
        using (
            select distinct evse_key, date_trunc('month', local_date)::date as local_month
            from {{ ref('int_evse__touched_days') }}
        ) as touched
        where old.evse_key = touched.evse_key and old.local_month = touched.local_month
    {%- endif %}
{%- endmacro %}

{# The same by feed and day in UTC. -#}
{% macro delete_touched_feed_days() -%}
    {% if is_incremental() -%}
        delete from {{ this }} as old
        using {{ ref('int_feed__touched_days') }} as touched
        where old.cpo_key = touched.cpo_key and old.utc_date = touched.utc_date
    {%- endif %}
{%- endmacro %}

{# What feeds told on their touched days: read by time, a day after the other, for most EVSEs told something on most days. -#}
{% macro changes_of_touched_feed_days() -%}
    select
        changes.*,
        touched.utc_date
    from (
        select distinct
            utc_date,
            day_from,
            day_until
        from {{ ref('int_feed__touched_days') }}
    ) as days
    inner join {{ ref('stg_status_change') }} as changes
        on changes.observed_at_exact >= days.day_from and changes.observed_at_exact < days.day_until
    inner join {{ ref('int_feed__touched_days') }} as touched
        on touched.cpo_key = changes.feed_key and touched.utc_date = days.utc_date
{%- endmacro %}

{# Statistics of a table that has just been filled: without them the next model reads it with a bad plan. Increments leave it to autovacuum, but
   for tables that are filled anew each time. -#}
{% macro analyze_new_table() -%}
    {% if model.config.materialized == 'table' or model.config.materialized == 'incremental' and not is_incremental() -%}
        analyze {{ this }}
    {%- endif %}
{%- endmacro %}

{# For a statement of which the planner believes that few rows are to be sorted, and it is millions: until the transaction ends. -#}
{% macro hash_rather_than_sort() -%}
    set local enable_mergejoin = off
{%- endmacro %}

{# What holds for an EVSE, from a relation of asset versions: the latest description, a listed connector's first. One row per EVSE.
   A commissioning date once stated stays until another is stated: most feeds carry none. -#}
{% macro evse_descriptions(versions) -%}
    select distinct on (versions.evse_key)
        versions.evse_key,
        versions.feed_key,
        versions.site_key,
        versions.charger_key,
        versions.evse_id,
        versions.emi3_id,
        versions.time_zone,
        stated.commissioned_on
    from {{ versions }} as versions
    left join (
        select distinct on (evse_key)
            evse_key,
            commissioned_on
        from {{ versions }}
        where commissioned_on is not null
        order by evse_key, valid_from desc, asset_version_key desc
    ) as stated on stated.evse_key = versions.evse_key
    order by
        versions.evse_key,
        versions.is_listed desc,
        versions.valid_from desc,
        -- Of descriptions of one time the ids decide, not the order in which they arrived.
        versions.connector_id,
        versions.asset_version_key desc
{%- endmacro %}
