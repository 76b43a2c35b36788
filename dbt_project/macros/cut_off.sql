{# The run's cut-off, to the second. -#}
{% macro as_of() -%}
    date_trunc('second', '{{ var("as_of") }}'::timestamptz)
{%- endmacro %}

{# Rows recorded up to here have been worked into the marts by the last finished run. -#}
{% macro previous_as_of() -%}
    '{{ var("previous_as_of") or "-infinity" }}'::timestamptz
{%- endmacro %}

{# Delete the touched days of an incremental model, also those that will have no rows any more. -#}
{% macro delete_touched_days() -%}
    {% if is_incremental() -%}
        delete from {{ this }} as old
        using {{ ref('int_evse__touched_days') }} as touched
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
