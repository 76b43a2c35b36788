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
