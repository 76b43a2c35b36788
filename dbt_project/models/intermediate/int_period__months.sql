{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with services as (

    select * from {{ ref('int_evse__service') }}

),

-- A month is there as soon as it has begun for one EVSE.
known as (

    select
        date_trunc('month', min(in_service_from at time zone time_zone)) as first_month,
        date_trunc('month', max(({{ as_of() }} - interval '1 second') at time zone time_zone)) as last_month
    from services
    where in_service_from < {{ as_of() }}

),

months as (

    select listed.month_from
    from known
    cross join lateral generate_series(
        known.first_month, known.last_month, interval '1 month'
    ) as listed (month_from)

),

periods as (

    select
        'rolling_12_months' as period,
        month_from::date as period_date,
        month_from - interval '11 months' as first_month
    from months

    union

    select
        'year',
        date_trunc('year', month_from)::date,
        date_trunc('year', month_from)
    from months

)

select
    periods.period,
    periods.period_date,
    listed.month_number::integer as month_number,
    (periods.first_month + make_interval(months => listed.month_number::integer))::date as local_month
from periods
cross join generate_series(0, 11) as listed (month_number)
