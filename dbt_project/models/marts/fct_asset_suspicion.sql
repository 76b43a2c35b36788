{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with connectors as (

    select * from {{ ref('int_connector__current') }}

),

country_boxes as (

    select * from {{ ref('country_boxes') }}

),

postcode_ranges as (

    select * from {{ ref('stg_postcode_range') }}

),

listed as (

    select * from connectors
    where is_listed

),

described as (

    select distinct on (site_key)
        site_key,
        feed_key::integer as cpo_key,
        postcode,
        upper(state) as state,
        -- As for postcodes: a site that states no country is taken for an Australian one.
        coalesce(upper(country), 'AUS') as country,
        latitude,
        longitude,
        time_zone
    from listed
    order by site_key, valid_from desc, asset_version_key desc

),

sites as (

    select
        described.*,
        country_boxes.country is not null as has_box,
        latitude between south and north and longitude between west and east as is_inside,
        longitude between south and north and latitude between west and east as is_inside_when_swapped,
        -- About a kilometre around the point at which no place lies.
        abs(latitude) < 0.01 and abs(longitude) < 0.01 as is_zero,
        extract(epoch from
            ({{ as_of() }} at time zone time_zone) - ({{ as_of() }} at time zone 'UTC')
        ) / 3600 as zone_hours,
        -- 15 degrees are an hour.
        longitude / 15 as sun_hours
    from described
    left join country_boxes
        on described.country in (country_boxes.country, country_boxes.country_alpha_2)

),

of_sites as (

    select
        *,
        case
            when latitude is null or longitude is null then 'coordinates_missing'
            when is_zero then 'coordinates_zero'
            when has_box and not is_inside and is_inside_when_swapped then 'coordinates_swapped'
            when has_box and not is_inside then 'coordinates_outside_country'
        end as suspicion,
        'latitude ' || coalesce(latitude::text, 'not stated')
        || ', longitude ' || coalesce(longitude::text, 'not stated') || ', country ' || country as stated
    from sites

    union all

    select
        *,
        case
            when abs(zone_hours - sun_hours) > {{ var('suspicious_time_zone_hours') }} then 'time_zone_elsewhere'
        end,
        time_zone || ', longitude ' || longitude
    from sites
    -- Where the coordinates are nothing, nothing follows from them.
    where not is_zero

    union all

    select
        sites.*,
        case when postcode_ranges.state <> sites.state then 'postcode_of_another_state' end,
        'postcode ' || sites.postcode || ', state ' || sites.state
    from sites
    inner join postcode_ranges
        on sites.country in ('AU', 'AUS')
            and case when sites.postcode ~ '^\d{4}$' then sites.postcode::integer end
            between postcode_ranges.first_postcode and postcode_ranges.last_postcode

),

of_connectors as (

    select
        site_key,
        feed_key::integer as cpo_key,
        connector_key,
        case
            when power_kw is null then 'power_missing'
            when power_kw < {{ var('suspicious_power_below_kw') }} then 'power_too_low'
            when power_kw > {{ var('suspicious_power_above_kw') }} then 'power_too_high'
        end as suspicion,
        'power ' || coalesce(power_kw::text || ' kW', 'not stated') as stated
    from listed

),

suspicions as (

    select
        cpo_key,
        site_key,
        null::integer as connector_key,
        suspicion,
        stated
    from of_sites
    where suspicion is not null

    union all

    select
        cpo_key,
        site_key,
        connector_key,
        suspicion,
        stated
    from of_connectors
    where suspicion is not null

)

select * from suspicions
