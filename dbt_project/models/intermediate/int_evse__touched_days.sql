with services as (

    select * from {{ ref('int_evse__service') }}

),

contact as (

    select * from {{ ref('int_feed__changed_contact') }}

),

changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

versions as (

    select * from {{ ref('stg_asset_version') }}

),

exclusions as (

    select * from {{ ref('stg_exclusion_version') }}

),

-- A change counts from its own time to the EVSE's next observation; one that begins its service, for all days since.
by_changes as (

    select
        changes.evse_key,
        changes.observed_at as touched_from,
        case
            when changes.observed_at = services.in_service_from then {{ as_of() }}
            when services.has_virtual_evses then coalesce(next_kind.observed_at, {{ as_of() }})
            else coalesce(next_change.observed_at, {{ as_of() }})
        end as touched_until
    from changes
    inner join services on services.evse_key = changes.evse_key
    left join lateral (
        select following.observed_at
        from {{ ref('stg_status_change') }} as following
        where following.evse_key = changes.evse_key
            and following.observed_at_exact >= changes.observed_at + interval '1 second'
        order by following.observed_at_exact
        limit 1
    ) as next_change on true
    -- Among virtual EVSEs it matters when being down or occupied began, for as long as it lasts.
    left join lateral (
        select following.observed_at
        from {{ ref('int_evse__told_kind') }} as following
        inner join {{ ref('int_evse__told_kind') }} as next_told
            on next_told.evse_key = following.evse_key
                and next_told.observed_at_exact >= next_change.observed_at
                and next_told.observed_at_exact < next_change.observed_at + interval '1 second'
        where services.has_virtual_evses
            and following.evse_key = changes.evse_key
            and following.observed_at_exact >= next_change.observed_at
            and (
                not (following.is_down or following.is_occupied)
                or (following.is_down, following.is_occupied) <> (next_told.is_down, next_told.is_occupied)
            )
        order by following.observed_at_exact
        limit 1
    ) as next_kind on true
    where {{ is_new('changes.observed_at_exact', 'changes.recorded_at') }}
        and {{ previous_as_of() }} > '-infinity'

),

by_contact as (

    select
        services.evse_key,
        contact.changed_from as touched_from,
        least(contact.changed_until, {{ as_of() }}) as touched_until
    from contact
    inner join services on services.feed_key = contact.feed_key

),

by_time as (

    select
        evse_key,
        {{ previous_as_of() }} as touched_from,
        {{ as_of() }} as touched_until
    from services

),

-- What entries say now and what they said before: both begin or cease to be excluded.
by_register as (

    select
        said.evse_key,
        said.excluded_from as touched_from,
        least(said.excluded_until, {{ as_of() }}) as touched_until
    from exclusions as said
    where said.exclusion_id in (
        select exclusions.exclusion_id
        from exclusions
        where exclusions.recorded_at > {{ previous_as_of() }}
    )

),

siblings as (

    {{ virtual_siblings() }}

),

touched_themselves as (

    select * from by_changes
    union all
    select * from by_contact
    union all
    select * from by_time
    union all
    select * from by_register

),

touched as (

    select * from touched_themselves

    union all

    select
        siblings.sibling_key,
        touched_themselves.touched_from,
        touched_themselves.touched_until
    from touched_themselves
    inner join siblings on siblings.evse_key = touched_themselves.evse_key

),

by_instant as (

    select distinct
        touched.evse_key,
        greatest(
            (touched.touched_from at time zone services.time_zone)::date,
            (services.in_service_from at time zone services.time_zone)::date
        ) as first_date,
        (
            (least(touched.touched_until, services.ended_at) - interval '1 second') at time zone services.time_zone
        )::date as last_date
    from touched
    inner join services on services.evse_key = touched.evse_key
    where touched.touched_until > services.in_service_from

),

versions_before as (

    select * from versions
    where not {{ is_new('valid_from') }}

),

described_before as (

    {{ evse_descriptions('versions_before') }}

),

described_anew as (

    select distinct evse_key
    from versions
    where {{ is_new('valid_from') }}

),

-- A description that moves days or service moves all days of the EVSE, also those that it was in service by what was described before.
moved as (

    select
        services.evse_key,
        services.charger_key,
        described_before.charger_key as charger_key_before,
        described_before.commissioned_on::timestamp at time zone described_before.time_zone as commissioned_before
    from described_anew
    inner join services on services.evse_key = described_anew.evse_key
    left join described_before on described_before.evse_key = services.evse_key
    where (described_before.time_zone, described_before.commissioned_on)
        is distinct from (services.time_zone, services.commissioned_on)
        or services.has_virtual_evses and described_before.charger_key is distinct from services.charger_key

),

-- With a virtual EVSE all days of the others at its charger move, and of those at the one that it has left.
moved_along as (

    select evse_key, commissioned_before from moved

    union all

    select
        others.evse_key,
        null
    from moved
    inner join services as others on others.charger_key in (moved.charger_key, moved.charger_key_before)
    where others.has_virtual_evses and others.evse_key <> moved.evse_key

),

by_description as (

    select
        services.evse_key,
        -- Any two calendars are at most two days apart.
        (
            least(services.in_service_from, services.first_observed_at, moved_along.commissioned_before)
            at time zone services.time_zone
        )::date - 2 as first_date,
        (least({{ as_of() }}, services.ended_at) at time zone services.time_zone)::date + 2 as last_date
    from moved_along
    inner join services on services.evse_key = moved_along.evse_key

),

dated as (

    select * from by_instant
    union all
    select * from by_description

),

days as (

    select distinct
        dated.evse_key,
        listed.local_time::date as local_date
    from dated
    cross join lateral generate_series(
        dated.first_date::timestamp, dated.last_date::timestamp, interval '1 day'
    ) as listed (local_time)

)

select * from days
