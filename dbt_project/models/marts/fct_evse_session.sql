{{ config(materialized='view') }}

with sessions as (

    select * from {{ ref('int_evse__session') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

connectors as (

    select * from {{ ref('dim_connector') }}

),

-- One connector is used at a time, nobody says which: the strongest one bounds the energy.
rated as (

    select
        evse_key,
        max(power_kw) filter (where is_listed) as listed_power_kw,
        max(power_kw) as power_kw
    from connectors
    group by evse_key

),

placed as (

    select
        sessions.*,
        evses.charger_key,
        evses.site_key,
        evses.cpo_key,
        coalesce(rated.listed_power_kw, rated.power_kw)::numeric(9, 3) as power_kw,
        -- When what was known before it ended: its own begin, or that of the gap before it.
        (
            select earlier.span_until
            from {{ ref('int_evse__status_span') }} as earlier
            where earlier.evse_key = sessions.evse_key
                and earlier.span_from < sessions.session_from
                and earlier.status not in {{ not_known_statuses() }}
            order by earlier.span_from desc
            limit 1
        ) as known_before_until,
        -- When it was seen to have ended: its own end, or that of the gap after it.
        (
            select following.span_from
            from {{ ref('int_evse__status_span') }} as following
            where following.evse_key = sessions.evse_key
                and following.span_from >= sessions.last_until
                and following.status not in {{ not_known_statuses() }}
            order by following.span_from
            limit 1
        ) as seen_ended_at
    from sessions
    inner join evses on evses.evse_key = sessions.evse_key
    left join rated on rated.evse_key = sessions.evse_key

)

select
    evse_key,
    charger_key,
    site_key,
    cpo_key,
    session_from,
    case when not is_open then last_until end as session_until,
    is_open,
    charging_seconds,
    idle_seconds,
    begins_after_gap,
    ends_in_gap,
    extract(epoch from
        session_from - case
            when known_before_until is not null
                then {{ last_heard('placed.cpo_key', 'placed.evse_key', 'placed.known_before_until') }}
        end
    )::bigint as from_uncertainty_seconds,
    extract(epoch from
        seen_ended_at - case
            when seen_ended_at is not null
                then {{ last_heard('placed.cpo_key', 'placed.evse_key', 'placed.last_until') }}
        end
    )::bigint as until_uncertainty_seconds,
    power_kw,
    round(power_kw * charging_seconds / 3600, 3)::numeric(14, 3) as energy_upper_bound_kwh,
    opened_by_change_key
from placed
