{{ config(materialized='view') }}

-- Neither a window nor a `with`: PostgreSQL would work out all spans first when a join with places asks for some.
-- Raw and state are read, not staging: each run swaps those views, and would take this one away for a while.
select
    spans.evse_key,
    spans.local_date,
    spans.span_from,
    spans.span_until,
    spans.seconds,
    spans.status,
    told.change_key,
    told.observed_at,
    told.received_at,
    told.status_word,
    told.status_profile,
    told.meaning_profile,
    told.meaning_valid_from,
    {{ begun_by('spans', 'told.opened_change_key', 'told.opened_word', first_of_day('spans')) }} as opened_by,
    told.opened_change_key,
    told.opened_observed_at,
    told.opened_received_at,
    case
        when following.evse_key is null
            then case when spans.span_until = evses.in_service_until then 'service_ended' else 'cut_off' end
        when following.status = 'removed' and spans.status <> 'removed' then 'removed'
        else {{ begun_by(
            'following', 'told.closed_change_key', 'told.closed_word', 'following.local_date > spans.local_date'
        ) }}
    end as closed_by,
    told.closed_change_key,
    told.closed_observed_at,
    told.closed_received_at,
    {{ last_contact_before('evses.cpo_key', 'spans.span_from') }} as last_contact_before_from_at,
    {{ last_contact_before('evses.cpo_key', 'spans.span_until') }} as last_contact_before_until_at
from {{ ref('int_evse__status_span') }} as spans
inner join {{ ref('dim_evse') }} as evses on evses.evse_key = spans.evse_key
left join {{ ref('int_evse__status_span') }} as following
    on following.evse_key = spans.evse_key and following.span_from = spans.span_until
-- One relation to the planner, which orders eight at most: so it finds the few EVSEs first that a join with places asks for.
left join lateral (
    select
        in_force.change_key,
        in_force.observed_at,
        in_force.received_at,
        in_force.status_word,
        in_force.status_profile,
        case
            when in_force.status_word is not null then coalesce(meanings.given_by_profile, 'unmapped')
        end as meaning_profile,
        meanings.valid_from as meaning_valid_from,
        at_begin.change_key as opened_change_key,
        at_begin.observed_at as opened_observed_at,
        at_begin.received_at as opened_received_at,
        at_begin.status_word as opened_word,
        at_end.change_key as closed_change_key,
        at_end.observed_at as closed_observed_at,
        at_end.received_at as closed_received_at,
        at_end.status_word as closed_word
    from (values (spans.evse_key)) as asked (evse_key)
    left join lateral (
        select changes.*
        from {{ source('raw', 'status_change') }} as changes
        where changes.evse_key = spans.evse_key
            and changes.observed_at >= spans.observed_at
            and changes.observed_at < spans.observed_at + interval '1 second'
            and changes.change_key = spans.change_key
    ) as in_force on true
    left join lateral (
        {{ told_in_the_second('spans.evse_key', 'spans.span_from') }}
    ) as at_begin on true
    left join lateral (
        {{ told_in_the_second('spans.evse_key', 'spans.span_until') }}
    ) as at_end on true
    left join {{ ref('int_status_word__meaning') }} as meanings
        on meanings.status_profile = in_force.status_profile
            and meanings.source_word = lower(in_force.status_word)
            and spans.observed_at >= meanings.valid_from
            and spans.observed_at < meanings.valid_until
    limit 1
) as told on true
