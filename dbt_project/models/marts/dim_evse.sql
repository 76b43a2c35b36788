with services as (

    select * from {{ ref('int_evse__service') }}

),

spans as (

    select * from {{ ref('int_evse__status_span') }}

),

last_spans as (

    select distinct on (evse_key)
        evse_key,
        status,
        observed_at
    from spans
    order by evse_key, span_from desc

),

described as (

    select
        services.evse_key,
        services.charger_key,
        services.site_key,
        services.feed_key::integer as cpo_key,
        services.evse_id,
        services.emi3_id,
        services.commissioned_on,
        services.in_service_from,
        least(
            services.ended_at,
            case when last_spans.status = 'removed' then last_spans.observed_at end
        ) as in_service_until
    from services
    left join last_spans on last_spans.evse_key = services.evse_key

)

select * from described
