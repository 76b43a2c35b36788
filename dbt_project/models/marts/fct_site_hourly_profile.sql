{{ config(materialized='view') }}

with hours as (

    select * from {{ ref('int_site__hour_daily') }}

),

profile as (

    select
        site_key,
        local_month,
        extract(isodow from local_date)::smallint as iso_weekday,
        local_hour,
        count(*)::smallint as day_count,
        {%- for measure in ['in_service', 'free', 'in_use', 'down', 'not_known'] %}
        sum({{ measure }}_seconds)::integer as {{ measure }}_seconds
        {{- ',' if not loop.last }}
        {%- endfor %}
    from hours
    group by site_key, local_month, iso_weekday, local_hour

)

select * from profile
