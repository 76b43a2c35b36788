{# One row per whole number from the first to the last. -#}
{% macro each_number(first, last) -%}
    generate_series({{ first }}, {{ last }})
{%- endmacro %}

{# Numbers of the slots of the local day, from 0, that a span [from, until) lies in: seconds since local midnight, and the length of a slot. -#}
{% macro each_slot(from_second, until_second, slot_seconds) -%}
    {{ each_number(from_second ~ ' / ' ~ slot_seconds, '(' ~ until_second ~ ' - 1) / ' ~ slot_seconds) }}
{%- endmacro %}

{# Seconds between two instants, as an integer. By way of double precision, which is exact here and costs a fraction of numeric. -#}
{% macro seconds_between(earlier, later) -%}
    date_part('epoch', {{ later }} - {{ earlier }})::integer
{%- endmacro %}

{# How many days of one month there are. A bit for each day: count(distinct) would sort all rows. -#}
{% macro distinct_days(local_date) -%}
    bit_count(bit_or(1 << (date_part('day', {{ local_date }})::integer - 1))::bit(32))::smallint
{%- endmacro %}

{# The cells of the hourly profile that this run computes. -#}
{% macro touched_cells() -%}
    select distinct
        site_key,
        date_trunc('month', local_date)::date as local_month,
        extract(isodow from local_date)::smallint as iso_weekday
    from {{ ref('int_site__touched_days') }}
{%- endmacro %}

{% macro delete_touched_cells() -%}
    {% if is_incremental() -%}
        delete from {{ this }} as old
        using ({{ touched_cells() }}) as touched
        where old.site_key = touched.site_key
            and old.local_month = touched.local_month
            and old.iso_weekday = touched.iso_weekday
    {%- endif %}
{%- endmacro %}
