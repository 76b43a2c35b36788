with touched as (

    select
        evse_key,
        min(local_date) as first_date
    from {{ ref('int_evse__touched_days') }}
    group by evse_key

),

services as (

    select * from {{ ref('int_evse__service') }}

),

daily as (

    select * from {{ ref('fct_evse_status_daily') }}

),

breaks as (

    select * from {{ ref('fct_evse_service_break') }}

),

rule_set_statuses as (

    select * from {{ ref('rule_set_statuses') }}

),

-- In any other status neither an outage nor a session goes on, whatever the rule-set.
eventful as (

    select status from rule_set_statuses
    where class in ('down', 'not_measured')
    union
    select * from (values ('charging'), ('finishing')) as charged (status)

),

-- What was before the first touched day stays; what may go on into it begins after the last span in which surely nothing did.
restarts as (

    select
        touched.evse_key,
        services.time_zone,
        coalesce(uneventful.span_from, '-infinity') as events_from,
        coalesce(signs.local_date, '-infinity') as sign_date
    from touched
    inner join services on services.evse_key = touched.evse_key
    left join lateral (
        select spans.span_from
        from {{ ref('int_evse__status_span') }} as spans
        where spans.evse_key = touched.evse_key
            and spans.span_from < touched.first_date::timestamp at time zone services.time_zone
            and spans.status not in (select eventful.status from eventful)
        order by spans.span_from desc
        limit 1
    ) as uneventful on true
    left join lateral (
        select max(local_date) as local_date
        from (
            (
                select daily.local_date
                from daily
                where daily.evse_key = touched.evse_key
                    and daily.local_date < touched.first_date
                    and daily.status not in {{ idle_statuses() }}
                order by daily.local_date desc
                limit 1
            )
            union all
            select breaks.local_date
            from breaks
            where breaks.evse_key = touched.evse_key and breaks.local_date < touched.first_date
        ) as told
    ) as signs on true

)

select
    evse_key,
    events_from,
    (events_from at time zone time_zone)::date::timestamp at time zone time_zone as events_day_from,
    sign_date,
    (sign_date + 1)::timestamp at time zone time_zone as idle_from
from restarts
