{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with activity as (

    select * from {{ ref('int_feed__activity_daily') }}

),

contacts as not materialized (

    select * from {{ ref('stg_feed_contact') }}

),

last_days as (

    select
        cpo_key,
        max(utc_date) as utc_date
    from activity
    where failed_count > 0
    group by cpo_key

),

failures as (

    select
        last_days.cpo_key,
        failure.contact_from as failed_at,
        failure.detail
    from last_days
    cross join lateral (
        select contacts.contact_from, contacts.detail
        from contacts
        where contacts.feed_key = last_days.cpo_key
            and contacts.outcome = 'failed'
            and contacts.contact_from_exact >= last_days.utc_date::timestamp at time zone 'UTC'
        order by contacts.contact_from_exact desc, contacts.contact_key desc
        limit 1
    ) as failure

)

select * from failures
