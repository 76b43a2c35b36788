-- From the start of service to the cut-off (or removal) each local day's seconds are the seconds the EVSE was in service on it.
with spans as (

    select * from {{ ref('int_evse__status_span') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

expected as (

    select
        services.evse_key,
        listed.local_time::date as local_date,
        extract(epoch from
            least(
                (listed.local_time + interval '1 day') at time zone services.time_zone,
                {{ as_of() }},
                services.ended_at
            )
            - greatest(listed.local_time at time zone services.time_zone, services.in_service_from)
        ) as seconds
    from services
    cross join lateral generate_series(
        (services.in_service_from at time zone services.time_zone)::date::timestamp,
        (least({{ as_of() }}, services.ended_at) at time zone services.time_zone)::date::timestamp,
        interval '1 day'
    ) as listed (local_time)

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
    coalesce(expected.evse_key, found.evse_key) as evse_key,
    coalesce(expected.local_date, found.local_date) as local_date,
    expected.seconds as expected_seconds,
    found.seconds as found_seconds
from (select * from expected where seconds > 0) as expected
full join found on found.evse_key = expected.evse_key and found.local_date = expected.local_date
where expected.seconds is distinct from found.seconds
