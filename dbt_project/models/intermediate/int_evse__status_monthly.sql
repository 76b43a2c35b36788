{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_touched_months() }}",
    indexes=[{'columns': ['evse_key', 'local_month', 'status'], 'unique': true}],
) }}

with daily as (

    select * from {{ ref('fct_evse_status_daily') }}

),

touched as (

    select distinct
        evse_key,
        date_trunc('month', local_date)::date as local_month
    from {{ ref('int_evse__touched_days') }}

),

monthly as (

    select
        daily.evse_key,
        date_trunc('month', daily.local_date)::date as local_month,
        daily.status,
        sum(daily.seconds) as seconds
    from daily
    inner join touched
        on touched.evse_key = daily.evse_key
            and daily.local_date >= touched.local_month
            and daily.local_date < touched.local_month + interval '1 month'
    group by 1, 2, 3

)

select * from monthly
