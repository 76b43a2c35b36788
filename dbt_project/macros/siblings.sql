{# EVSEs of one charger that is told as virtual EVSEs. A day of theirs is the same day: they have one time zone. Expects a relation `services`. -#}
{% macro virtual_siblings() -%}
    select
        ours.evse_key,
        theirs.evse_key as sibling_key
    from services as ours
    inner join services as theirs
        on theirs.charger_key = ours.charger_key
            and theirs.time_zone = ours.time_zone
            and theirs.evse_key <> ours.evse_key
    where ours.has_virtual_evses
{%- endmacro %}

{# When what was told of an EVSE in a second began to be of a kind (is_down, is_occupied) without a break: after the last that was told and is not. -#}
{% macro kind_began_at(kind, evse_key, observed_at) -%}
(
    select first_told.observed_at
    from {{ ref('stg_status_change') }} as first_told
    where first_told.evse_key = {{ evse_key }}
        and first_told.observed_at_exact >= coalesce(
            (
                select other.observed_at + interval '1 second'
                from {{ ref('int_evse__told_kind') }} as other
                where other.evse_key = {{ evse_key }}
                    and other.observed_at_exact < {{ observed_at }}
                    and not other.{{ kind }}
                order by other.observed_at_exact desc
                limit 1
            ),
            '-infinity'
        )
    order by first_told.observed_at_exact
    limit 1
)
{%- endmacro %}
