{# The load of a kind of reference file that was in force at the cut-off. -#}
{% macro load_in_force(kind) -%}
(
    select load_key
    from {{ source('reference', 'load') }}
    where kind = '{{ kind }}' and loaded_at <= {{ as_of() }}
    order by loaded_at desc, load_key desc
    limit 1
)
{%- endmacro %}

{# Coordinates with the area of a kind of boundaries that they lie in, or that is near. -#}
{% macro places_in(kind) -%}
select
    located.latitude,
    located.longitude,
    located.distance_m,
    area.code,
    area.name
from {{ source('reference', 'located') }} as located
inner join {{ source('reference', 'area') }} as area
    on area.load_key = located.load_key and area.code = located.code
where located.load_key = {{ load_in_force(kind) }}
{%- endmacro %}

{# A name as names are compared: without case and blanks. -#}
{% macro plain_name(name) -%}
    lower(regexp_replace({{ name }}, '\s+', '', 'g'))
{%- endmacro %}

{# The first digit of an ABS code is the state's. -#}
{% macro state_of_lga(code) -%}
    case left({{ code }}, 1)
        {%- for state in ['NSW', 'VIC', 'QLD', 'SA', 'WA', 'TAS', 'NT', 'ACT'] %}
        when '{{ loop.index }}' then '{{ state }}'
        {%- endfor %}
    end
{%- endmacro %}

{# Haversine: metres between two points in degrees on a sphere of the earth's mean radius; 0.5 % off at most. Null for what is no latitude. -#}
{% macro metres_between(latitude, longitude, other_latitude, other_longitude) -%}
    case
        when {{ latitude }} between -90 and 90 and {{ other_latitude }} between -90 and 90
            then 2 * 6371008.8 * asin(sqrt(
                power(sin(radians({{ other_latitude }} - {{ latitude }}) / 2), 2)
                + cos(radians({{ latitude }})) * cos(radians({{ other_latitude }}))
                * power(sin(radians({{ other_longitude }} - {{ longitude }}) / 2), 2)
            ))
    end
{%- endmacro %}

{# Coordinates are located before each transformation: none may have been left out. -#}
{% test every_site_is_located(model) %}
select distinct sites.latitude, sites.longitude
from {{ model }} as sites
inner join {{ source('reference', 'load') }} as load
    on load.load_key in ({{ load_in_force('lga_boundaries') }}, {{ load_in_force('postcode_boundaries') }})
where sites.latitude is not null
    and sites.longitude is not null
    and not exists (
        select from {{ source('reference', 'located') }} as located
        where located.load_key = load.load_key
            and located.latitude = sites.latitude
            and located.longitude = sites.longitude
    )
{% endtest %}
