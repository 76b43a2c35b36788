{{ config(materialized='view') }}

with served as (

    select distinct
        evse_key,
        local_month
    from {{ ref('int_evse__status_monthly') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

rule_sets as (

    select * from {{ ref('rule_sets') }}

),

rule_set_statuses as (

    select * from {{ ref('rule_set_statuses') }}

),

months as (

    select
        served.evse_key,
        served.local_month,
        evses.charger_key,
        evses.site_key,
        evses.cpo_key,
        served.local_month::timestamp at time zone services.time_zone as month_from,
        (served.local_month + interval '1 month') at time zone services.time_zone as month_until
    from served
    inner join evses on evses.evse_key = served.evse_key
    inner join services on services.evse_key = served.evse_key

),

-- Read by index for each EVSE and month: the offset keeps it so.
inside as (

    select
        months.evse_key,
        months.local_month,
        outages.rule_set,
        outages.rule_set_version,
        outages.outage_from >= months.month_from as is_begun,
        -- Also one that ends with the month's last second: it is no part of the next month.
        outages.down_until <= months.month_until and rule_set_statuses.class is not distinct from 'up' as is_repaired,
        extract(epoch from outages.down_until - outages.outage_from)::bigint as duration_seconds,
        extract(epoch from
            least(outages.down_until, months.month_until) - greatest(outages.outage_from, months.month_from)
        )::bigint as inside_seconds
    from months
    cross join lateral (
        select *
        from {{ ref('int_evse__outage') }}
        where evse_key = months.evse_key
            and down_until > months.month_from
            and outage_from < months.month_until
        offset 0
    ) as outages
    left join rule_set_statuses
        on rule_set_statuses.rule_set = outages.rule_set
            and rule_set_statuses.rule_set_version = outages.rule_set_version
            and rule_set_statuses.status = outages.next_status

),

counted as (

    select
        evse_key,
        local_month,
        rule_set,
        rule_set_version,
        count(*) filter (where is_begun) as outage_count,
        count(*) as overlapping_outage_count,
        sum(inside_seconds) as outage_seconds,
        max(inside_seconds) as longest_outage_seconds,
        count(*) filter (where is_repaired) as repaired_count,
        sum(duration_seconds) filter (where is_repaired) as repair_seconds
    from inside
    group by evse_key, local_month, rule_set, rule_set_version

),

-- A month without any outage has a row, and zeros.
judged as (

    select
        months.evse_key,
        months.charger_key,
        months.site_key,
        months.cpo_key,
        months.local_month,
        rule_sets.rule_set,
        rule_sets.rule_set_version,
        coalesce(counted.outage_count, 0)::integer as outage_count,
        coalesce(counted.overlapping_outage_count, 0)::integer as overlapping_outage_count,
        coalesce(counted.outage_seconds, 0)::bigint as outage_seconds,
        coalesce(counted.longest_outage_seconds, 0)::bigint as longest_outage_seconds,
        coalesce(counted.repaired_count, 0)::integer as repaired_count,
        coalesce(counted.repair_seconds, 0)::bigint as repair_seconds,
        {{ mean_seconds('counted.repair_seconds', 'counted.repaired_count') }} as mean_time_to_repair_seconds
    from months
    cross join rule_sets
    left join counted
        on counted.evse_key = months.evse_key
            and counted.local_month = months.local_month
            and counted.rule_set = rule_sets.rule_set
            and counted.rule_set_version = rule_sets.rule_set_version

)

select * from judged
