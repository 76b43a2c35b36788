-- Each touched day's seconds are the seconds the EVSE was in service on it, from the start of service to the cut-off (or the feed's end).
with spans as (

    {{ touched_rows(ref('int_evse__status_span')) }}

),

touched as (

    select * from {{ ref('int_evse__touched_days') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

expected as (

    select
        touched.evse_key,
        touched.local_date,
        extract(epoch from
            least(
                (touched.local_date + 1)::timestamp at time zone services.time_zone,
                {{ as_of() }},
                services.ended_at
            )
            - greatest(touched.local_date::timestamp at time zone services.time_zone, services.in_service_from)
        ) as seconds
    from touched
    inner join services on services.evse_key = touched.evse_key

),

-- The passing of time touches every EVSE, whatever else did.
of_today as (

    select
        services.evse_key,
        ((least({{ as_of() }}, services.ended_at) - interval '1 second') at time zone services.time_zone)::date as local_date
    from services
    where services.in_service_from < least({{ as_of() }}, services.ended_at)
        and coalesce(services.ended_at > {{ previous_as_of() }}, true)

),

found as (

    select
        evse_key,
        local_date,
        sum(seconds) as seconds
    from spans
    group by evse_key, local_date

)

select
    evse_key,
    local_date,
    expected.seconds as expected_seconds,
    found.seconds as found_seconds
from (select * from expected where seconds > 0) as expected
full join found using (evse_key, local_date)
where expected.seconds is distinct from found.seconds

union all

select
    evse_key,
    local_date,
    null,
    null
from of_today
where (evse_key, local_date) not in (select evse_key, local_date from touched)
