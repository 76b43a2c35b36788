{{ config(materialized='view') }}

with changes as (

    select * from {{ ref('stg_status_change') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

-- Of two changes in one second the later one holds; of two at one instant the one learnt later.
held as (

    select * from changes
    where not exists (
        select 1
        from {{ ref('stg_status_change') }} as later
        where later.evse_key = changes.evse_key
            and later.observed_at_exact >= changes.observed_at_exact
            and later.observed_at_exact < changes.observed_at + interval '1 second'
            and (later.observed_at_exact, later.change_key) > (changes.observed_at_exact, changes.change_key)
    )

),

kinds as (

    select
        held.evse_key,
        held.observed_at,
        held.observed_at_exact,
        coalesce(meanings.is_down, false) as is_down,
        coalesce(meanings.is_occupied, false) as is_occupied
    from held
    left join meanings
        on meanings.status_profile = held.status_profile
            and meanings.source_word = lower(held.status_word)
            and held.observed_at >= meanings.valid_from
            and held.observed_at < meanings.valid_until

)

select * from kinds
