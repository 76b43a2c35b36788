with evses as (

    select * from {{ ref('dim_evse') }}

),

-- Nothing is known to be funded until a list of funded assets is read.
funded as (

    select
        evse_key,
        null::text as program,
        null::text as round,
        null::text as match_method,
        null::double precision as distance_m
    from evses
    where false

)

select * from funded
