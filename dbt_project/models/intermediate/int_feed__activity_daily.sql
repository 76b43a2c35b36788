{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_feed_days() }}",
    indexes=[{'columns': ['cpo_key', 'utc_date'], 'unique': true}],
) }}

with touched as (

    select * from {{ ref('int_feed__touched_days') }}

),

islands as (

    select * from {{ ref('int_feed__contact_islands') }}

),

contacts as not materialized (

    select * from {{ ref('stg_feed_contact') }}

),

changes as (

    {{ changes_of_touched_feed_days() }}

),

contact_seconds as (

    select
        touched.cpo_key,
        touched.utc_date,
        sum(extract(epoch from
            least(islands.alive_until, touched.day_until, {{ as_of() }})
            - greatest(islands.alive_from, touched.day_from)
        ))::integer as contact_seconds
    from touched
    inner join islands
        on islands.feed_key = touched.cpo_key
            and islands.alive_from < least(touched.day_until, {{ as_of() }})
            and islands.alive_until > touched.day_from
    group by touched.cpo_key, touched.utc_date

),

contact_counts as (

    select
        touched.cpo_key,
        touched.utc_date,
        max(contacts.contact_until) filter (where contacts.outcome in ('complete', 'alive')) as last_contact_at,
        count(*) filter (where contacts.outcome = 'complete')::integer as complete_count,
        count(*) filter (where contacts.outcome = 'alive')::integer as alive_count,
        count(*) filter (where contacts.outcome = 'failed')::integer as failed_count,
        count(*) filter (where contacts.outcome = 'lost')::integer as lost_count
    from touched
    inner join contacts
        on contacts.feed_key = touched.cpo_key
            and contacts.contact_from_exact >= touched.day_from
            and contacts.contact_from_exact < touched.day_until
    group by touched.cpo_key, touched.utc_date

),

told as (

    select
        feed_key as cpo_key,
        utc_date,
        observed_at,
        status_word,
        date_part('epoch', received_at - observed_at_exact) as latency_seconds
    from changes

),

change_counts as (

    select
        cpo_key,
        utc_date,
        max(observed_at) filter (where status_word is not null) as last_change_at,
        count(*)::integer as change_count,
        percentile_cont(0.5) within group (order by latency_seconds) as latency_p50_seconds,
        percentile_cont(0.95) within group (order by latency_seconds) as latency_p95_seconds,
        max(latency_seconds) as latency_max_seconds
    from told
    group by cpo_key, utc_date

),

daily as (

    select
        touched.cpo_key,
        touched.utc_date,
        greatest(contact_counts.last_contact_at, change_counts.last_change_at) as last_contact_at,
        coalesce(contact_seconds.contact_seconds, 0) as contact_seconds,
        coalesce(contact_counts.complete_count, 0) as complete_count,
        coalesce(contact_counts.alive_count, 0) as alive_count,
        coalesce(contact_counts.failed_count, 0) as failed_count,
        coalesce(contact_counts.lost_count, 0) as lost_count,
        coalesce(change_counts.change_count, 0) as change_count,
        change_counts.latency_p50_seconds,
        change_counts.latency_p95_seconds,
        change_counts.latency_max_seconds
    from touched
    left join contact_seconds
        on contact_seconds.cpo_key = touched.cpo_key and contact_seconds.utc_date = touched.utc_date
    left join contact_counts
        on contact_counts.cpo_key = touched.cpo_key and contact_counts.utc_date = touched.utc_date
    left join change_counts
        on change_counts.cpo_key = touched.cpo_key and change_counts.utc_date = touched.utc_date

)

select * from daily
