{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_all_rows() }}",
) }}

-- Read by index around each absence: they must not be copied first.
with changes as not materialized (

    select * from {{ ref('stg_status_change') }}

),

evses as (

    select * from {{ ref('dim_evse') }}

),

meanings as (

    select * from {{ ref('int_status_word__meaning') }}

),

absences as (

    select
        changes.evse_key,
        changes.observed_at_exact,
        changes.observed_at as vanished_at,
        word_before.status_word as last_word,
        word_before.status_profile as last_profile,
        word_before.observed_at as last_word_at,
        observed_again.observed_at as returned_at
    from changes
    left join lateral (
        select earlier.status_word, earlier.status_profile, earlier.observed_at
        from {{ ref('stg_status_change') }} as earlier
        where earlier.evse_key = changes.evse_key
            and earlier.observed_at_exact < changes.observed_at_exact
        order by earlier.observed_at_exact desc, earlier.change_key desc
        limit 1
    ) as word_before on true
    left join lateral (
        select following.observed_at
        from {{ ref('stg_status_change') }} as following
        where following.evse_key = changes.evse_key
            and following.observed_at_exact > changes.observed_at_exact
            and following.status_word is not null
        order by following.observed_at_exact
        limit 1
    ) as observed_again on true
    where changes.status_word is null

),

-- Told absent twice in a row it vanished once; what was never there cannot vanish.
described as (

    select
        absences.evse_key,
        evses.cpo_key,
        absences.vanished_at,
        absences.returned_at,
        absences.returned_at is null as is_open,
        absences.last_word,
        coalesce(meanings.status, 'unknown') as last_status
    from absences
    inner join evses on evses.evse_key = absences.evse_key
    left join meanings
        on meanings.status_profile = absences.last_profile
            and meanings.source_word = lower(absences.last_word)
            and absences.last_word_at >= meanings.valid_from
            and absences.last_word_at < meanings.valid_until
    where absences.last_word is not null
        and (absences.returned_at is null or absences.returned_at > absences.vanished_at)

),

-- Vanished twice within a second: the absence that lasted counts.
per_second as (

    select distinct on (evse_key, vanished_at) *
    from described
    order by evse_key, vanished_at, returned_at desc nulls first

)

select * from per_second
