with lines as (

    select * from {{ ref('int_feed__lifelines') }}

),

-- Read by index for each island that begins after a loss: it must not be copied first.
contacts as not materialized (

    select * from {{ ref('stg_feed_contact') }}

),

alive as (

    select * from lines
    where kind = 'alive'

),

held as (

    select * from lines
    where kind = 'held'

),

-- Another collector that held the stream all the while received what this one may have lost.
losses as (

    select
        contacts.feed_key,
        contacts.contact_from_exact as lost_from,
        contacts.contact_until_exact as lost_until
    from contacts
    where contacts.outcome = 'lost'
        and not exists (
            select 1
            from held
            where held.feed_key = contacts.feed_key
                and held.line_from <= contacts.contact_from_exact
                and held.line_until >= contacts.contact_until_exact
                -- Two stretches that touch at the very instant of a loss do not reach over it.
                and contacts.contact_from_exact < contacts.contact_until_exact
        )

),

with_reach as (

    select
        *,
        max(lost_until) over (
            partition by feed_key
            order by lost_from, lost_until
            rows between unbounded preceding and 1 preceding
        ) as reached
    from losses

),

numbered as (

    select
        *,
        count(*) filter (where reached is null or lost_from > reached) over (
            partition by feed_key
            order by lost_from, lost_until
            rows between unbounded preceding and current row
        ) as loss_number
    from with_reach

),

joined_losses as (

    select
        feed_key,
        min(lost_from) as lost_from,
        max(lost_until) as lost_until
    from numbered
    group by feed_key, loss_number

),

cuts as (

    select
        alive.feed_key,
        alive.line_from,
        alive.line_until,
        joined_losses.lost_from,
        joined_losses.lost_until,
        lead(joined_losses.lost_from) over (
            partition by alive.feed_key, alive.line_from
            order by joined_losses.lost_from
        ) as next_lost_from
    from alive
    inner join joined_losses
        on joined_losses.feed_key = alive.feed_key
            and joined_losses.lost_from < alive.line_until
            and joined_losses.lost_until >= alive.line_from

),

first_cuts as (

    select
        feed_key,
        line_from,
        min(lost_from) as lost_from
    from cuts
    group by feed_key, line_from

),

up_to_the_first_loss as (

    select
        alive.feed_key,
        alive.line_from as alive_from,
        alive.line_from as heard_from,
        alive.complete_from,
        coalesce({{ whole_second('first_cuts.lost_from') }}, alive.line_until) as alive_until
    from alive
    left join first_cuts
        on first_cuts.feed_key = alive.feed_key and first_cuts.line_from = alive.line_from

),

after_a_loss as (

    select
        feed_key,
        {{ whole_second('lost_until') }} as alive_from,
        lost_until as heard_from,
        coalesce({{ whole_second('next_lost_from') }}, line_until) as alive_until
    from cuts

),

islands as (

    select
        feed_key,
        alive_from,
        heard_from,
        case when complete_from < alive_until then complete_from end as complete_from,
        alive_until
    from up_to_the_first_loss

    union all

    select
        after_a_loss.feed_key,
        after_a_loss.alive_from,
        after_a_loss.heard_from,
        complete.contact_from,
        after_a_loss.alive_until
    from after_a_loss
    left join lateral (
        select contacts.contact_from
        from contacts
        where contacts.feed_key = after_a_loss.feed_key
            and contacts.outcome = 'complete'
            and contacts.contact_from_exact >= after_a_loss.heard_from
            and contacts.contact_from_exact < after_a_loss.alive_until
        order by contacts.contact_from_exact
        limit 1
    ) as complete on true

),

-- Between two losses within a second nothing is left.
with_time as (

    select * from islands
    where alive_from < alive_until

)

select * from with_time
