with touched as (

    select * from {{ ref('int_evse__touched_days') }}

),

numbered as (

    select
        evse_key,
        local_date,
        -- The same for days on end.
        local_date - (row_number() over (partition by evse_key order by local_date))::integer as period
    from touched

),

periods as (

    select
        evse_key,
        min(local_date) as first_date,
        max(local_date) as last_date
    from numbered
    group by evse_key, period

)

select * from periods
