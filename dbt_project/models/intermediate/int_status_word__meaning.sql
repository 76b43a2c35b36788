{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

with profiles as (

    select * from {{ ref('status_profiles') }}

),

dated as (

    select
        status_profile,
        lower(source_word) as source_word,
        status,
        valid_from::timestamp at time zone 'UTC' as valid_from,
        coalesce(
            lead(valid_from) over (partition by status_profile, lower(source_word) order by valid_from)
                ::timestamp at time zone 'UTC',
            'infinity'
        ) as valid_until
    from profiles

)

select * from dated
