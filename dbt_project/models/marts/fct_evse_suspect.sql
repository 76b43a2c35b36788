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

-- Signs of life, and known troubles: anything but available.
signs as (

    {{ spans_since('unused_from', "status not in " ~ idle_statuses()) }}

),

last_signs as (

    select
        evse_key,
        span_from,
        span_until
    from signs

    union all

    select
        services.evse_key,
        services.in_service_from,
        services.in_service_from
    from services
    inner join restarts on restarts.evse_key = services.evse_key
    where restarts.unused_from = '-infinity'

),

between_signs as (

    select
        evse_key,
        span_until as unused_from,
        lead(span_from) over (partition by evse_key order by span_from, span_until) as unused_until
    from last_signs

),

whole_days as (

    select
        services.evse_key,
        services.feed_key::integer as cpo_key,
        services.time_zone,
        -- The first local midnight of the stretch begins the first whole day, the last one ends the last.
        ((between_signs.unused_from - interval '1 second') at time zone services.time_zone)::date + 1 as first_date,
        (
            coalesce(between_signs.unused_until, least({{ as_of() }}, services.ended_at))
            at time zone services.time_zone
        )::date as end_date,
        between_signs.unused_until is null and coalesce(services.ended_at > {{ as_of() }}, true) as is_open
    from between_signs
    inner join services on services.evse_key = between_signs.evse_key

),

unused as (

    select
        *,
        first_date::timestamp at time zone time_zone as unused_from,
        end_date::timestamp at time zone time_zone as unused_until
    from whole_days
    where end_date - first_date >= {{ var('zombie_minimum_days') }}

),

with_available as (

    select
        unused.*,
        available.seconds / extract(epoch from unused.unused_until - unused.unused_from) as available_ratio
    from unused
    cross join lateral (
        select sum(daily.seconds) as seconds
        from {{ ref('fct_evse_status_daily') }} as daily
        where daily.evse_key = unused.evse_key
            and daily.local_date >= unused.first_date
            and daily.local_date < unused.end_date
            and daily.status = 'available'
    ) as available

),

zombies as (

    select
        'zombie' as kind,
        cpo_key,
        evse_key,
        unused_from as suspect_from,
        case when not is_open then unused_until end as suspect_until,
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
