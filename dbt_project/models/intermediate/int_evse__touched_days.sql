with services as (

    select * from {{ ref('int_evse__service') }}

),

contact as (

    select * from {{ ref('int_feed__changed_contact') }}

),

changes as (

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

-- A description that moves days or service moves all days of the EVSE.
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

by_description as (

    select
        services.evse_key,
        '-infinity'::timestamptz as touched_from,
        {{ as_of() }} as touched_until
    from described_anew
    inner join services on services.evse_key = described_anew.evse_key
    left join described_before on described_before.evse_key = services.evse_key
    where (described_before.time_zone, described_before.commissioned_on)
        is distinct from (services.time_zone, services.commissioned_on)

),

touched as (

    select * from by_changes
    union all
    select * from by_contact
    union all
    select * from by_time
    union all
    select * from by_description
    union all
    select * from by_register

),

dated as (

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
