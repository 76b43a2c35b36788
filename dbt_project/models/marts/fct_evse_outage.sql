{{ config(materialized='view') }}

with outages as (

    select * from {{ ref('int_evse__outage') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

rule_set_statuses as (

    select * from {{ ref('rule_set_statuses') }}

),

placed as (

    select
        outages.*,
        evses.charger_key,
        evses.site_key,
        evses.cpo_key,
        -- When the last that is measured before it ended: its own begin, or that of the gap before it.
        (
            select earlier.span_until
            from {{ ref('int_evse__status_span') }} as earlier
            where earlier.evse_key = outages.evse_key
                and earlier.span_from < outages.outage_from
                and not exists (
                    select 1
                    from rule_set_statuses
                    where rule_set_statuses.rule_set = outages.rule_set
                        and rule_set_statuses.rule_set_version = outages.rule_set_version
                        and rule_set_statuses.status = earlier.status
                        and rule_set_statuses.class = 'not_measured'
                )
            order by earlier.span_from desc
            limit 1
        ) as known_before_until
    from outages
    inner join evses on evses.evse_key = outages.evse_key

)

select
    evse_key,
    charger_key,
    site_key,
    cpo_key,
    rule_set,
    rule_set_version,
    outage_from,
    case when not is_open then down_until end as outage_until,
    is_open,
    extract(epoch from down_until - outage_from)::bigint as duration_seconds,
    down_seconds,
    extract(epoch from down_until - outage_from)::bigint - down_seconds as gap_seconds,
    first_status,
    last_status,
    next_status,
    status_words,
    extract(epoch from
        outage_from - case
            when known_before_until is not null
                then {{ last_heard('placed.cpo_key', 'placed.evse_key', 'placed.known_before_until') }}
        end
    )::bigint as from_uncertainty_seconds,
    extract(epoch from
        seen_ended_at - case
            when seen_ended_at is not null
                then {{ last_heard('placed.cpo_key', 'placed.evse_key', 'placed.down_until') }}
        end
    )::bigint as until_uncertainty_seconds,
    opened_by_change_key,
    closed_by_change_key
from placed
