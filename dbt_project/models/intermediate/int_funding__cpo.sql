with assets as (

    select * from {{ ref('stg_funded_asset') }}

),

cpos as (

    select * from {{ ref('dim_cpo') }}

),

listed_names as (

    select * from {{ ref('stg_cpo_name') }}

),

names as (

    select
        cpo_key,
        {{ plain_name('cpo_name') }} as plain_name
    from cpos

    union

    select
        cpo_key,
        {{ plain_name('cpo_id') }}
    from cpos

    union

    select
        cpos.cpo_key,
        {{ plain_name('listed_names.listed_name') }}
    from listed_names
    inner join cpos on cpos.cpo_id = listed_names.cpo_id

),

named as (

    select
        assets.asset_id,
        names.cpo_key
    from assets
    inner join names on names.plain_name = {{ plain_name('assets.cpo_name') }}

)

select * from named
