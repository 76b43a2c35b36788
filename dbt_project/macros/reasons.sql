{# What cut an EVSE's time where `span` begins. What was told of the EVSE in that second: its key and word, if anything.
   A cut inside a day that nothing of its own explains comes from another EVSE of the charger. -#}
{% macro begun_by(span, change_key, status_word, is_first_of_day) -%}
        case
            when {{ change_key }} is not null and {{ status_word }} is null then 'absent'
            when {{ change_key }} is not null and {{ span }}.status <> 'missing' then 'observation'
            when {{ span }}.status = 'missing' and (
                select
                    islands.alive_until = {{ span }}.span_from
                    -- At midnight: what was not known before can't be lost.
                    and (islands.complete_from is not null or {{ span }}.observed_at >= islands.heard_from)
                from {{ source('state', 'applied_island') }} as islands
                where islands.feed_key = evses.cpo_key and islands.alive_from < {{ span }}.span_from
                order by islands.alive_from desc
                limit 1
            ) then case
                when exists (
                    select 1
                    from {{ source('raw', 'feed_contact') }} as contacts
                    where contacts.feed_key = evses.cpo_key
                        and contacts.recorded_at <= {{ as_of() }}
                        and contacts.outcome = 'lost'
                        and contacts.contact_from >= {{ span }}.span_from
                        and contacts.contact_from < {{ span }}.span_from + interval '1 second'
                ) then 'messages_lost'
                else 'contact_lost'
            end
            when {{ span }}.status <> 'missing' and (
                select
                    islands.complete_from = {{ span }}.span_from
                    -- At midnight: what it told itself in this island was known before.
                    and {{ span }}.observed_at < islands.heard_from
                from {{ source('state', 'applied_island') }} as islands
                where islands.feed_key = evses.cpo_key and islands.alive_from <= {{ span }}.span_from
                order by islands.alive_from desc
                limit 1
            ) then 'contact'
            -- Told while messages were being lost: known, and no sign that it holds.
            when {{ change_key }} is not null then 'observation'
            when {{ span }}.span_from = evses.in_service_from then 'service_began'
            when {{ is_first_of_day }} then 'local_midnight'
            else 'sibling'
        end
{%- endmacro %}

{# Whether a span is the first of its EVSE's day. -#}
{% macro first_of_day(span) -%}
coalesce(
                (
                    select earlier.local_date < {{ span }}.local_date
                    from {{ ref('int_evse__status_span') }} as earlier
                    where earlier.evse_key = {{ span }}.evse_key and earlier.span_from < {{ span }}.span_from
                    order by earlier.span_from desc
                    limit 1
                ),
                true
            )
{%- endmacro %}

{# What was told of an EVSE in the second of `at`: the last of it, which holds. -#}
{% macro told_in_the_second(evse_key, at) -%}
            select changes.*
            from {{ source('raw', 'status_change') }} as changes
            where changes.evse_key = {{ evse_key }}
                and changes.recorded_at <= {{ as_of() }}
                and changes.observed_at < {{ as_of() }}
                and changes.observed_at >= {{ at }}
                and changes.observed_at < {{ at }} + interval '1 second'
            order by changes.observed_at desc, changes.change_key desc
            limit 1
{%- endmacro %}

{# The end of the last contact with a feed that began before `at`, and `at` itself while the feed was held. -#}
{% macro last_contact_before(feed_key, at) -%}
        greatest(
            (
                select least(contacts.contact_until, {{ at }})
                from {{ source('raw', 'feed_contact') }} as contacts
                where contacts.feed_key = {{ feed_key }}
                    and contacts.recorded_at <= {{ as_of() }}
                    and contacts.outcome in ('complete', 'alive')
                    and contacts.contact_from < {{ at }}
                order by contacts.contact_from desc
                limit 1
            ),
            (
                select least(held.line_until, {{ at }})
                from {{ source('state', 'applied_lifeline') }} as held
                where held.feed_key = {{ feed_key }} and held.kind = 'held' and held.line_from < {{ at }}
                order by held.line_from desc
                limit 1
            )
        )
{%- endmacro %}
