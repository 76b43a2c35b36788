with connectors as (

    select * from {{ ref('int_connector__current') }}

),

postcode_ranges as (

    select * from {{ ref('stg_postcode_range') }}

),

postcode_places as (

    select * from {{ ref('stg_postcode_place') }}

),

lga_places as (

    select * from {{ ref('stg_lga_place') }}

),

lga_names as (

    select * from {{ ref('int_lga__name') }}

),

described as (

    select distinct on (site_key) *
    from connectors
    -- Of descriptions of one time the ids decide, not the order in which they arrived.
    order by site_key, is_listed desc, valid_from desc, evse_id, connector_id, asset_version_key desc

),

filled as (

    select
        described.*,
        coalesce(nullif(described.postcode, ''), postcode_places.code) as filled_postcode,
        case
            when nullif(described.postcode, '') is not null then 'stated'
            when postcode_places.code is not null then 'boundary'
        end as postcode_method
    from described
    -- Only inside: the nearest postcode may be another state's, and a postcode overrules the state.
    left join postcode_places
        on postcode_places.latitude = described.latitude
            and postcode_places.longitude = described.longitude
            and postcode_places.distance_m = 0

),

with_state as (

    select
        filled.*,
        -- A postcode overrules a wrong state.
        coalesce(postcode_ranges.state, upper(filled.state)) as filled_state
    from filled
    left join postcode_ranges
        on filled.filled_postcode ~ '^\d{4}$'
            and coalesce(upper(filled.country), 'AU') in ('AU', 'AUS')
            -- The pattern is checked again: a join condition may be evaluated in any order.
            and case when filled.filled_postcode ~ '^\d{4}$' then filled.filled_postcode::integer end
            between postcode_ranges.first_postcode and postcode_ranges.last_postcode

),

with_lga as (

    select
        with_state.*,
        lga_names.lga_code as stated_lga_code,
        lga_names.lga_name as stated_lga_name,
        lga_places.code as near_lga_code,
        lga_places.name as near_lga_name,
        lga_places.distance_m
    from with_state
    left join lga_names
        on lga_names.plain_name = {{ plain_name('with_state.lga_name') }}
            and lga_names.state = with_state.filled_state
    left join lga_places
        on lga_places.latitude = with_state.latitude
            and lga_places.longitude = with_state.longitude
            and lga_places.distance_m <= {{ var('nearest_area_within_m') }}

),

placed as (

    select
        site_key,
        feed_key::integer as cpo_key,
        site_id,
        site_name,
        nullif(address, '') as address,
        nullif(suburb, '') as suburb,
        filled_postcode as postcode,
        postcode_method,
        filled_state as state,
        upper(state) as stated_state,
        latitude,
        longitude,
        time_zone,
        coalesce(stated_lga_code, near_lga_code) as lga_code,
        coalesce(stated_lga_name, near_lga_name) as lga_name,
        case
            when stated_lga_code is not null then 'stated'
            when distance_m = 0 then 'boundary'
            when distance_m > 0 then 'nearest within {{ var("nearest_area_within_m") }} m'
        end as lga_method
    from with_lga

)

select * from placed
