with written as (

    select * from {{ ref('stg_lga_name') }}

),

areas as (

    select * from {{ ref('stg_lga_area') }}

),

-- An area is also known by its own name. The same name in two states is two areas.
known as (

    select
        {{ plain_name('written_name') }} as plain_name,
        {{ state_of_lga('lga_code') }} as state,
        lga_code,
        lga_name
    from written

    union

    select
        {{ plain_name('lga_name') }},
        {{ state_of_lga('lga_code') }},
        lga_code,
        lga_name
    from areas

)

select * from known
