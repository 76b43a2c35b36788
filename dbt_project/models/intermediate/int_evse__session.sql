{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_events('session_from') }}",
    indexes=[{'columns': ['evse_key', 'session_from'], 'unique': true}, {'columns': ['session_from']}],
) }}

with restarts as (

    select * from {{ ref('int_evse__event_restart') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

-- Of other statuses it matters only that time is left out where they were.
spans as (

    {{ spans_since_restart("(status in ('charging', 'finishing') or status in " ~ not_known_statuses() ~ ")") }}

),

with_neighbours as (

    select
        *,
        case when lag(span_until) over in_time = span_from then lag(status) over in_time end as status_before,
        case when lead(span_from) over in_time = span_until then lead(status) over in_time end as status_after
    from spans
    window in_time as (partition by evse_key order by span_from)

),

-- Charging after an idle tail is the next session; after a gap nothing is carried on.
in_use as (

    select
        *,
        status_before is null
        or status_before in {{ not_known_statuses() }}
        or (status = 'charging' and status_before = 'finishing') as is_first
    from with_neighbours
    where status in ('charging', 'finishing')

),

numbered as (

    select
        *,
        count(*) filter (where is_first) over (
            partition by evse_key
            order by span_from
            rows between unbounded preceding and current row
        ) as session_number
    from in_use

),

-- Finishing alone is what is left of a session that nobody saw.
sessions as (

    select
        evse_key,
        min(span_from) as session_from,
        max(span_until) as last_until,
        coalesce(sum(seconds) filter (where status = 'charging'), 0) as charging_seconds,
        coalesce(sum(seconds) filter (where status = 'finishing'), 0) as idle_seconds,
        coalesce(bool_or(status_before in {{ not_known_statuses() }}), false) as begins_after_gap,
        coalesce(bool_or(status_after in {{ not_known_statuses() }}), false) as ends_in_gap,
        max(change_key) filter (where is_first) as opened_by_change_key
    from numbered
    group by evse_key, session_number
    having bool_or(status = 'charging')

)

select
    sessions.evse_key,
    sessions.session_from,
    sessions.last_until,
    sessions.last_until = {{ as_of() }} and coalesce(services.ended_at > {{ as_of() }}, true) as is_open,
    sessions.charging_seconds,
    sessions.idle_seconds,
    -- Of what was before its service nothing is known either.
    sessions.begins_after_gap or sessions.session_from = services.in_service_from as begins_after_gap,
    sessions.ends_in_gap,
    sessions.opened_by_change_key
from sessions
inner join services on services.evse_key = sessions.evse_key
