with feeds as (

    select * from {{ ref('stg_feed') }}

),

contacts as (

    select * from {{ ref('stg_feed_contact') }}

),

changes as (

    select * from {{ ref('stg_status_change') }}

),

applied as (

    select * from {{ source('state', 'applied_island') }}

),

-- Any message is a sign of life, also one about a single EVSE.
new_signs as (

    select
        feed_key,
        contact_from as sign_from,
        contact_until as sign_until,
        outcome = 'complete' as is_complete
    from contacts
    where outcome <> 'failed' and {{ is_new('contact_from') }}

    union all

    select distinct
        feed_key,
        observed_at,
        observed_at,
        false
    from changes
    where status_word is not null and {{ is_new('observed_at') }}

),

-- Joining intervals is associative: the islands of the last run stand for all signs that made them.
intervals as (

    select
        feed_key,
        alive_from,
        complete_from,
        alive_until,
        alive_until as applied_until
    from applied
    where {{ previous_as_of() }} > '-infinity'

    union all

    select
        new_signs.feed_key,
        new_signs.sign_from,
        case when new_signs.is_complete then new_signs.sign_from end,
        new_signs.sign_until + make_interval(secs => feeds.liveness_seconds),
        null
    from new_signs
    inner join feeds on feeds.feed_key = new_signs.feed_key

),

with_reach as (

    select
        *,
        max(alive_until) over (
            partition by feed_key
            order by alive_from, alive_until
            rows between unbounded preceding and 1 preceding
        ) as reached
    from intervals

),

numbered as (

    select
        *,
        -- Intervals that touch are one island: nothing lies between them.
        count(*) filter (where reached is null or alive_from > reached) over (
            partition by feed_key
            order by alive_from, alive_until
            rows between unbounded preceding and current row
        ) as island_number
    from with_reach

),

joined as (

    select
        feed_key,
        min(alive_from) as alive_from,
        min(complete_from) as complete_from,
        max(alive_until) as alive_until,
        -- What the earliest applied island in this one looked like.
        min(alive_from) filter (where applied_until is not null) as applied_from,
        (array_agg(complete_from order by alive_from) filter (where applied_until is not null))[1]
            as applied_complete_from,
        (array_agg(applied_until order by alive_from) filter (where applied_until is not null))[1]
            as applied_until
    from numbered
    group by feed_key, island_number

),

compared as (

    select
        feed_key,
        alive_from,
        complete_from,
        alive_until,
        -- From here on the island says something else than the last run knew; null: it does not.
        case
            when applied_from = alive_from
                and applied_complete_from is not distinct from complete_from
                then case when applied_until < alive_until then applied_until end
            else alive_from
        end as changed_from
    from joined

)

select * from compared
