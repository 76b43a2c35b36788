with islands as (

    select
        feed_key,
        alive_from,
        heard_from,
        complete_from,
        alive_until
    from {{ ref('int_feed__contact_islands') }}
    where {{ previous_as_of() }} > '-infinity'

),

applied as (

    select
        feed_key,
        alive_from,
        heard_from,
        complete_from,
        alive_until
    from {{ source('state', 'applied_island') }}
    where {{ previous_as_of() }} > '-infinity'

),

-- Islands of one version do not overlap: those that are in both say the same in both.
only_now as (

    select * from islands
    except
    select * from applied

),

only_before as (

    select * from applied
    except
    select * from islands

),

versions as (

    select *, true as is_now from only_now
    union all
    select *, false as is_now from only_before

),

-- Before the first complete contact it matters from when on what is told counts; after it, nothing but contact does.
stretches as (

    select
        feed_key,
        is_now,
        heard_from as counts_from,
        alive_from as stretch_from,
        coalesce(complete_from, alive_until) as stretch_until
    from versions

    union all

    select
        feed_key,
        is_now,
        '-infinity',
        complete_from,
        alive_until
    from versions
    where complete_from is not null

),

points as (

    select feed_key, stretch_from as point_at from stretches
    union
    select feed_key, stretch_until from stretches

),

pieces as (

    select
        feed_key,
        point_at as piece_from,
        lead(point_at) over (partition by feed_key order by point_at) as piece_until
    from points

),

compared as (

    select
        pieces.feed_key,
        pieces.piece_from,
        pieces.piece_until,
        min(stretches.counts_from) filter (where stretches.is_now) as counts_from,
        min(stretches.counts_from) filter (where not stretches.is_now) as counted_from
    from pieces
    inner join stretches
        on stretches.feed_key = pieces.feed_key
            and stretches.stretch_from <= pieces.piece_from
            and stretches.stretch_until >= pieces.piece_until
    group by pieces.feed_key, pieces.piece_from, pieces.piece_until

),

changed as (

    select
        feed_key,
        piece_from as changed_from,
        piece_until as changed_until
    from compared
    where counts_from is distinct from counted_from

)

select * from changed
