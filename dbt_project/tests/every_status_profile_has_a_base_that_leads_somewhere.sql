-- A base without words of its own or a base, or a circle of bases, would leave words without a meaning.
with recursive profiles as (

    select * from {{ ref('status_profiles') }}

),

bases as (

    select * from {{ ref('status_profile_bases') }}

),

followed as (

    select
        status_profile,
        base_profile,
        1 as distance
    from bases

    union all

    select
        followed.status_profile,
        bases.base_profile,
        followed.distance + 1
    from followed
    inner join bases on bases.status_profile = followed.base_profile
    where followed.distance <= (select count(*) from bases)

)

select * from followed
where base_profile = status_profile
    or not exists (select from profiles where profiles.status_profile = followed.base_profile)
    and not exists (select from bases where bases.status_profile = followed.base_profile)
