with feeds as (

    select * from {{ ref('stg_feed') }}

),

profiles as (

    select * from {{ source('raw', 'feed_profile') }}

),

listed as (

    select
        feed_key,
        string_agg(status_profile, ', ' order by status_profile) as status_profiles
    from profiles
    group by feed_key

)

select
    feeds.feed_key::integer as cpo_key,
    feeds.cpo_id,
    feeds.cpo_name,
    listed.status_profiles
from feeds
left join listed on listed.feed_key = feeds.feed_key
