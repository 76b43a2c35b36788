with feeds as (

    select * from {{ ref('stg_feed') }}

),

contacts as (

    select * from {{ ref('stg_feed_contact') }}

),

-- Read by index for what is new: it must not be copied first.
changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

lines as (

    select * from {{ ref('int_feed__lifelines') }}

),

changed_contact as (

    select * from {{ ref('int_feed__changed_contact') }}

),

by_contacts as (

    select
        feed_key,
        contact_from as touched_from,
        contact_from as touched_until
    from contacts
    where {{ is_new('contact_from_exact') }}

),

-- EVSEs are counted from their first observation on, and without those that are absent: a change that moves either counts for all days since.
by_changes as (

    select
        changes.feed_key,
        changes.observed_at as touched_from,
        case
            when changes.status_word is null or earlier.status_word is null
                then {{ as_of() }} - interval '1 second'
            else changes.observed_at
        end as touched_until
    from changes
    left join lateral (
        select before.status_word
        from {{ ref('stg_status_change') }} as before
        where before.evse_key = changes.evse_key
            and before.observed_at_exact < changes.observed_at_exact
        order by before.observed_at_exact desc, before.change_key desc
        limit 1
    ) as earlier on true
    where {{ is_new('changes.observed_at_exact', 'changes.recorded_at') }}
        and {{ previous_as_of() }} > '-infinity'

),

-- When all is new, the days of what is a sign of life are found by time.
by_absences as (

    select
        feed_key,
        observed_at as touched_from,
        observed_at as touched_until
    from changes
    where status_word is null and {{ previous_as_of() }} = '-infinity'

),

-- What follows a late change may now have become something else than before.
by_followers as (

    select
        changes.feed_key,
        following.observed_at as touched_from,
        following.observed_at as touched_until
    from changes
    inner join lateral (
        select after.observed_at
        from {{ ref('stg_status_change') }} as after
        where after.evse_key = changes.evse_key
            and after.observed_at_exact > changes.observed_at_exact
        order by after.observed_at_exact
        limit 1
    ) as following on true
    where {{ is_new('changes.observed_at_exact', 'changes.recorded_at') }}
        and {{ previous_as_of() }} > '-infinity'

),

by_islands as (

    select
        feed_key,
        changed_from as touched_from,
        changed_until - interval '1 second' as touched_until
    from changed_contact

),

by_time as (

    select
        feeds.feed_key,
        greatest({{ previous_as_of() }}, min(lines.line_from)) as touched_from,
        {{ as_of() }} - interval '1 second' as touched_until
    from feeds
    inner join lines on lines.feed_key = feeds.feed_key
    where lines.kind = 'alive'
    group by feeds.feed_key

),

touched as (

    select * from by_contacts
    union
    select * from by_changes
    union
    select * from by_absences
    union
    select * from by_followers
    union
    select * from by_islands
    union
    select * from by_time

),

dated as (

    select distinct
        feed_key,
        (touched_from at time zone 'UTC')::date as first_date,
        (least(touched_until, {{ as_of() }} - interval '1 second') at time zone 'UTC')::date as last_date
    from touched

),

days as (

    select distinct
        dated.feed_key::integer as cpo_key,
        listed.at::date as utc_date
    from dated
    cross join lateral generate_series(
        dated.first_date::timestamp, dated.last_date::timestamp, interval '1 day'
    ) as listed (at)

)

select
    cpo_key,
    utc_date,
    utc_date::timestamp at time zone 'UTC' as day_from,
    (utc_date + 1)::timestamp at time zone 'UTC' as day_until
from days
