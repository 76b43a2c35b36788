{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with services as (

    select * from {{ ref('int_evse__service') }}

),

breaks as (

    select * from {{ ref('fct_evse_service_break') }}

),

connectors as (

    select * from {{ ref('int_connector__current') }}

),

power_bands as (

    select * from {{ ref('power_bands') }}

),

-- Of connectors that are not listed any more only if none is.
powers as (

    select
        evse_key,
        coalesce(max(power_kw) filter (where is_listed), max(power_kw)) as power_kw
    from connectors
    group by evse_key

),

removals as (

    select
        *,
        lag(break_until) over (partition by evse_key order by break_from) as previous_until
    from breaks
    where status = 'removed'

),

numbered as (

    select
        *,
        -- Days of one removal touch; told twice, it is still one.
        count(*) filter (where previous_until is distinct from break_from) over (
            partition by evse_key
            order by break_from
            rows between unbounded preceding and current row
        ) as removal_number
    from removals

),

whole_removals as (

    select
        evse_key,
        min(break_from) as removed_from,
        max(break_until) as removed_until
    from numbered
    group by evse_key, removal_number

),

described as (

    select
        services.evse_key,
        services.charger_key,
        services.site_key,
        services.feed_key::integer as cpo_key,
        services.evse_id,
        services.emi3_id,
        services.time_zone,
        services.commissioned_on,
        powers.power_kw::numeric(9, 3) as power_kw,
        coalesce(power_bands.power_band, 'unknown') as power_band,
        services.in_service_from,
        least(services.ended_at, whole_removals.removed_from) as in_service_until
    from services
    -- Only the removal that lasts until now ends service; it came back from the others.
    left join whole_removals
        on whole_removals.evse_key = services.evse_key
            and whole_removals.removed_until = least({{ as_of() }}, services.ended_at)
    left join powers on powers.evse_key = services.evse_key
    left join power_bands
        on powers.power_kw >= power_bands.power_from_kw
            and (powers.power_kw < power_bands.power_until_kw or power_bands.power_until_kw is null)

)

select * from described
