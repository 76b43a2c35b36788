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
        status_profile,
        source_word,
        status,
        given_by_profile,
        valid_from::timestamp at time zone 'UTC' as valid_from,
        coalesce(
            lead(valid_from) over (partition by status_profile, source_word order by valid_from)
                ::timestamp at time zone 'UTC',
            'infinity'
        ) as valid_until
    from in_force

)

select * from dated
