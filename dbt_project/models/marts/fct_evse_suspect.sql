{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_suspects() }}",
    indexes=[{'columns': ['evse_key', 'kind', 'suspect_from']}],
) }}

with restarts as (

    select * from {{ ref('int_evse__event_restart') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

feeds as (

    select * from {{ ref('stg_feed') }}

),

islands as (

    select * from {{ ref('int_feed__contact_islands') }}

),

activity as (

    select * from {{ ref('int_feed__activity_daily') }}

),

-- Days on which anything but available was told: a use, a trouble, a removal. What was before its service counts as one.
sign_days as (

    select
        restarts.evse_key,
        daily.local_date
    from restarts
    cross join lateral (
        select distinct local_date
        from {{ ref('fct_evse_status_daily') }}
        where evse_key = restarts.evse_key
            and local_date >= restarts.sign_date
            and status not in {{ idle_statuses() }}
        offset 0
    ) as daily

    union

    select
        restarts.evse_key,
        breaks.local_date
    from restarts
    inner join {{ ref('fct_evse_service_break') }} as breaks on breaks.evse_key = restarts.evse_key
    where breaks.local_date >= restarts.sign_date

    union

    select
        services.evse_key,
        ((services.in_service_from - interval '1 second') at time zone services.time_zone)::date
    from services
    inner join restarts on restarts.evse_key = services.evse_key
    where restarts.sign_date = '-infinity'

),

between_signs as (

    select
        evse_key,
        local_date + 1 as first_date,
        lead(local_date) over (partition by evse_key order by local_date) as next_date
    from sign_days

),

idle_days as (

    select
        services.evse_key,
        services.feed_key::integer as cpo_key,
        services.time_zone,
        between_signs.first_date,
        -- The day after the last one: of the cut-off's own day nobody knows yet how it ends.
        coalesce(
            between_signs.next_date,
            (least({{ as_of() }}, services.ended_at) at time zone services.time_zone)::date
        ) as end_date,
        between_signs.next_date is null and coalesce(services.ended_at > {{ as_of() }}, true) as is_open
    from between_signs
    inner join services on services.evse_key = between_signs.evse_key

),

idle as (

    select
        *,
        first_date::timestamp at time zone time_zone as idle_from,
        end_date::timestamp at time zone time_zone as idle_until
    from idle_days
    where end_date - first_date >= {{ var('zombie_minimum_days') }}

),

with_available as (

    select
        idle.*,
        available.seconds / extract(epoch from idle.idle_until - idle.idle_from) as available_ratio
    from idle
    cross join lateral (
        select sum(daily.seconds) as seconds
        from {{ ref('fct_evse_status_daily') }} as daily
        where daily.evse_key = idle.evse_key
            and daily.local_date >= idle.first_date
            and daily.local_date < idle.end_date
            and daily.status = 'available'
    ) as available

),

zombies as (

    select
        'zombie' as kind,
        cpo_key,
        evse_key,
        idle_from as suspect_from,
        case when not is_open then idle_until end as suspect_until,
        is_open,
        'nothing but available on ' || (end_date - first_date) || ' whole days from ' || first_date || ' to '
        || (end_date - 1) || ', known to be so for ' || trunc(available_ratio * 100, 2) || ' % of them' as evidence
    from with_available
    where available_ratio >= {{ var('zombie_minimum_available_ratio') }}

),

begun as (

    select
        services.evse_key,
        services.feed_key::integer as cpo_key,
        services.time_zone,
        outages.rule_set,
        outages.rule_set_version,
        (outages.outage_from at time zone services.time_zone)::date as local_date
    from restarts
    inner join services on services.evse_key = restarts.evse_key
    cross join lateral (
        select *
        from {{ ref('int_evse__outage') }}
        where evse_key = restarts.evse_key and outage_from >= restarts.events_day_from
        offset 0
    ) as outages

),

flaps as (

    select
        evse_key,
        cpo_key,
        time_zone,
        rule_set,
        rule_set_version,
        local_date,
        count(*) as outage_count
    from begun
    group by evse_key, cpo_key, time_zone, rule_set, rule_set_version, local_date
    having count(*) >= {{ var('flapping_minimum_outage_count') }}

),

-- By the rule-set that sees most.
worst_flaps as (

    select distinct on (evse_key, local_date)
        *,
        local_date::timestamp at time zone time_zone as day_from,
        (local_date + 1)::timestamp at time zone time_zone as day_until
    from flaps
    order by evse_key, local_date, outage_count desc, rule_set, rule_set_version

),

flapping as (

    select
        'flapping' as kind,
        cpo_key,
        evse_key,
        day_from as suspect_from,
        case when day_until <= {{ as_of() }} then day_until end as suspect_until,
        day_until > {{ as_of() }} as is_open,
        outage_count || ' outages began on ' || local_date || ' by ' || rule_set || ' ' || rule_set_version as evidence
    from worst_flaps

),

-- Silence of a day or longer goes over a midnight: from the last change of a day to the first of the next day that has any.
silences as (

    select
        activity.cpo_key,
        activity.last_change_at as silent_from,
        coalesce(
            lead(activity.first_change_at) over (partition by activity.cpo_key order by activity.utc_date),
            {{ as_of() }}
        ) as silent_until
    from activity
    where activity.change_count > 0

),

in_complete_contact as (

    select
        silences.cpo_key,
        greatest(silences.silent_from, islands.complete_from) as frozen_from,
        least(silences.silent_until, islands.alive_until, feeds.ended_at) as frozen_until,
        feeds.ended_at
    from silences
    inner join feeds on feeds.feed_key = silences.cpo_key
    inner join islands
        on islands.feed_key = silences.cpo_key
            and islands.complete_from < silences.silent_until
            and islands.alive_until > silences.silent_from

),

long_enough as (

    select * from in_complete_contact
    where frozen_until - frozen_from >= interval '1 hour' * {{ var('frozen_feed_minimum_hours') }}

),

with_evses as (

    select
        long_enough.*,
        (
            select count(*)
            from services
            where services.feed_key = long_enough.cpo_key and services.first_observed_at <= long_enough.frozen_from
        ) as evse_count
    from long_enough

),

frozen as (

    select
        'frozen_feed' as kind,
        cpo_key,
        null::integer as evse_key,
        frozen_from as suspect_from,
        case when frozen_until < {{ as_of() }} then frozen_until end as suspect_until,
        frozen_until >= {{ as_of() }} as is_open,
        'no change of any of ' || evse_count || ' EVSEs in '
        || trunc(extract(epoch from frozen_until - frozen_from) / 3600, 1) || ' hours of complete contact' as evidence
    from with_evses
    where evse_count >= {{ var('frozen_feed_minimum_evse_count') }}

),

suspects as (

    select * from zombies
    union all
    select * from flapping
    union all
    select * from frozen

)

select * from suspects
