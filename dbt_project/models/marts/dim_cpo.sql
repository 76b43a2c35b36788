with feeds as (

    select * from {{ ref('stg_feed') }}

)

select
    feed_key::integer as cpo_key,
    cpo_id,
    cpo_name
from feeds
