{{ config(indexes=[{'columns': ['feed_key', 'kind', 'line_from']}]) }}

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

    select * from {{ source('state', 'applied_lifeline') }}

),

new_contacts as (

    select * from contacts
    where outcome in ('complete', 'alive') and {{ is_new('contact_from_exact') }}

),

-- Any message is a sign of life, also one about a single EVSE.
new_signs as (

    select
        feed_key,
        contact_from as sign_from,
        contact_until as sign_until,
        outcome = 'complete' as is_complete
    from new_contacts

    union all

    -- Those that lie less than liveness apart make one line anyway: few rows are left to join.
    select
        changes.feed_key,
        min(changes.observed_at),
        max(changes.observed_at),
        false
    from changes
    inner join feeds on feeds.feed_key = changes.feed_key
    where changes.status_word is not null and {{ is_new('changes.observed_at_exact', 'changes.recorded_at') }}
    group by changes.feed_key, floor(date_part('epoch', changes.observed_at) / feeds.liveness_seconds)

),

-- Joining intervals is associative: the lines of the last run stand for all that made them.
intervals as (

    select
        feed_key,
        kind,
        line_from,
        complete_from,
        line_until
    from applied
    where {{ previous_as_of() }} > '-infinity'

    union all

    select
        new_signs.feed_key,
        'alive',
        new_signs.sign_from,
        case when new_signs.is_complete then new_signs.sign_from end,
        new_signs.sign_until + make_interval(secs => feeds.liveness_seconds)
    from new_signs
    inner join feeds on feeds.feed_key = new_signs.feed_key

    union all

    select
        feed_key,
        'held',
        contact_from_exact,
        null,
        contact_until_exact
    from new_contacts
    where contact_from_exact < contact_until_exact

),

with_reach as (

    select
        *,
        max(line_until) over (
            partition by feed_key, kind
            order by line_from, line_until
            rows between unbounded preceding and 1 preceding
        ) as reached
    from intervals

),

numbered as (

    select
        *,
        -- Intervals that touch are one line: nothing lies between them.
        count(*) filter (where line_from > reached) over (
            partition by feed_key, kind
            order by line_from, line_until
            rows between unbounded preceding and current row
        ) as line_number
    from with_reach

),

joined as (

    select
        feed_key,
        kind,
        min(line_from) as line_from,
        min(complete_from) as complete_from,
        max(line_until) as line_until
    from numbered
    group by feed_key, kind, line_number

)

select * from joined
