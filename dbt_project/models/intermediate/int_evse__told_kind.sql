{{ config(materialized='view') }}

-- Each change is asked by itself, without joins and CTEs: who looks for the last one of a kind then reads by index, and no further than to it.
select
    changes.evse_key,
    changes.observed_at,
    changes.observed_at_exact,
    {%- for kind in ['is_down', 'is_occupied'] %}
    coalesce(
        (
            select meanings.{{ kind }}
            from {{ ref('int_status_word__meaning') }} as meanings
            where meanings.status_profile = changes.status_profile
                and meanings.source_word = lower(changes.status_word)
                and changes.observed_at >= meanings.valid_from
                and changes.observed_at < meanings.valid_until
        ),
        false
    ) as {{ kind }}{{ ',' if not loop.last }}
    {%- endfor %}
from {{ ref('stg_status_change') }} as changes
-- Of two changes in one second the later one holds; of two at one instant the one learnt later.
where (
    select true
    from {{ ref('stg_status_change') }} as later
    where later.evse_key = changes.evse_key
        and later.observed_at_exact >= changes.observed_at_exact
        and later.observed_at_exact < changes.observed_at + interval '1 second'
        and (later.observed_at_exact, later.change_key) > (changes.observed_at_exact, changes.change_key)
    limit 1
) is null
