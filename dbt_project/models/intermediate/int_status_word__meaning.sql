{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with recursive profiles as (

    select * from {{ ref('status_profiles') }}

),

bases as (

    select * from {{ ref('status_profile_bases') }}

),

statuses as (

    select * from {{ ref('canonical_statuses') }}

),

names as (

    select status_profile from profiles
    union
    select status_profile from bases

),

lineage as (

    select
        status_profile,
        status_profile as ancestor,
        0 as distance,
        array[status_profile] as path
    from names

    union all

    select
        lineage.status_profile,
        bases.base_profile,
        lineage.distance + 1,
        lineage.path || bases.base_profile
    from lineage
    inner join bases on bases.status_profile = lineage.ancestor
    -- A circle ends here, and fails a test.
    where bases.base_profile <> all(lineage.path)

),

inherited as (

    select
        lineage.status_profile,
        lower(profiles.source_word) as source_word,
        profiles.status,
        profiles.valid_from,
        lineage.ancestor as given_by_profile,
        min(profiles.valid_from) over (
            partition by lineage.status_profile, lower(profiles.source_word)
            order by lineage.distance
            range between unbounded preceding and 1 preceding
        ) as overridden_from
    from lineage
    inner join profiles on profiles.status_profile = lineage.ancestor

),

-- A row of a nearer profile holds from its date on; before it, what the base says.
in_force as (

    select * from inherited
    where overridden_from is null or valid_from < overridden_from

),

dated as (

    select
        in_force.status_profile,
        in_force.source_word,
        in_force.status,
        in_force.given_by_profile,
        statuses.is_down,
        statuses.is_occupied,
        in_force.valid_from::timestamp at time zone 'UTC' as valid_from,
        coalesce(
            lead(in_force.valid_from) over (
                partition by in_force.status_profile, in_force.source_word
                order by in_force.valid_from
            )::timestamp at time zone 'UTC',
            'infinity'
        ) as valid_until
    from in_force
    inner join statuses on statuses.status = in_force.status

)

select * from dated
