-- Each touched day's spans follow each other without a hole and without an overlap, and last as long as the EVSE was in service on it: from the start of service to
-- the cut-off (or the feed's end).
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
        date_part(
            'epoch',
            least(
                (touched.local_date + 1)::timestamp at time zone services.time_zone,
                {{ as_of() }},
                services.ended_at
            )
            - greatest(touched.local_date::timestamp at time zone services.time_zone, services.in_service_from)
        ) as seconds
    from touched
    inner join services on services.evse_key = touched.evse_key
    where services.in_service_from is not null

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

followed as (

    select
        *,
        lag(local_date) over in_time as previous_date,
        lag(span_until) over in_time as previous_until
    from spans
    window in_time as (partition by evse_key order by span_from)

),

found as (

    select
        evse_key,
        local_date,
        sum(seconds) as seconds,
        count(*) filter (where seconds <= 0 or (previous_date = local_date and previous_until <> span_from)) as misplaced_count
    from followed
    group by evse_key, local_date

)

select
    evse_key,
    local_date,
    expected.seconds as expected_seconds,
    found.seconds as found_seconds,
    found.misplaced_count
from (select * from expected where seconds > 0) as expected
full join found using (evse_key, local_date)
where expected.seconds is distinct from found.seconds
    or found.misplaced_count > 0

union all

select
    evse_key,
    local_date,
    null,
    null,
    null
from of_today
where (evse_key, local_date) not in (select evse_key, local_date from touched)
