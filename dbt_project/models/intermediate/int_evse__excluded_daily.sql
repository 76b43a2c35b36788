{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_touched_months() }}",
    indexes=[{'columns': ['evse_key', 'local_month']}, {'columns': ['local_month']}],
) }}

with exclusions as (

    select * from {{ ref('dim_exclusion') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

rule_set_exclusions as (

    select * from {{ ref('rule_set_exclusions') }}

),

rule_set_statuses as (

    select * from {{ ref('rule_set_statuses') }}

),

-- Read by index for each entry: they must not be copied first.
spans as not materialized (

    select * from {{ ref('int_evse__status_span') }}

),

-- A cap counts within a month: what one day takes of it the later days do not have.
touched as (

    select distinct
        evse_key,
        date_trunc('month', local_date)::date as local_month
    from {{ ref('int_evse__touched_days') }}

),

months as (

    select
        touched.evse_key,
        touched.local_month,
        services.time_zone,
        touched.local_month::timestamp at time zone services.time_zone as month_from,
        (touched.local_month + interval '1 month') at time zone services.time_zone as month_until
    from touched
    inner join services on services.evse_key = touched.evse_key

),

accepted as (

    select
        exclusions.exclusion_id,
        exclusions.evse_key,
        exclusions.category,
        months.local_month,
        months.time_zone,
        rule_set_exclusions.rule_set,
        rule_set_exclusions.rule_set_version,
        (rule_set_exclusions.cap_hours_per_month * 3600)::integer as cap_seconds,
        exclusions.excluded_from as entry_from,
        greatest(exclusions.excluded_from, months.month_from) as accepted_from,
        least(exclusions.excluded_until, months.month_until) as accepted_until
    from exclusions
    inner join months
        on months.evse_key = exclusions.evse_key
            and months.month_from < exclusions.excluded_until
            and months.month_until > exclusions.excluded_from
    inner join rule_set_exclusions on rule_set_exclusions.category = exclusions.category
    where exclusions.decision = 'approved'

),

points as (

    select evse_key, local_month, rule_set, rule_set_version, accepted_from as point_at from accepted
    union
    select evse_key, local_month, rule_set, rule_set_version, accepted_until from accepted

),

pieces as (

    select
        *,
        lead(point_at) over (
            partition by evse_key, local_month, rule_set, rule_set_version
            order by point_at
        ) as next_point_at
    from points

),

-- Where entries overlap, a second belongs to one of them: to one without a cap before one with, then to the one that began first.
owned as (

    select distinct on (
        pieces.evse_key, pieces.local_month, pieces.rule_set, pieces.rule_set_version, pieces.point_at
    )
        accepted.*,
        pieces.point_at as piece_from,
        pieces.next_point_at as piece_until
    from pieces
    inner join accepted
        on accepted.evse_key = pieces.evse_key
            and accepted.local_month = pieces.local_month
            and accepted.rule_set = pieces.rule_set
            and accepted.rule_set_version = pieces.rule_set_version
            and accepted.accepted_from <= pieces.point_at
            and accepted.accepted_until >= pieces.next_point_at
    order by
        pieces.evse_key,
        pieces.local_month,
        pieces.rule_set,
        pieces.rule_set_version,
        pieces.point_at,
        accepted.cap_seconds is not null,
        accepted.entry_from,
        accepted.exclusion_id

),

covered as (

    select
        owned.*,
        spans.local_date,
        spans.status,
        spans.span_from,
        extract(
            epoch from least(spans.span_until, owned.piece_until) - greatest(spans.span_from, owned.piece_from)
        )::integer as covered_seconds
    from owned
    inner join spans
        on spans.evse_key = owned.evse_key
            and spans.local_date >= (owned.piece_from at time zone owned.time_zone)::date
            and spans.local_date <= (owned.piece_until at time zone owned.time_zone)::date
            and spans.span_from < owned.piece_until
            and spans.span_until > owned.piece_from
    inner join rule_set_statuses
        on rule_set_statuses.rule_set = owned.rule_set
            and rule_set_statuses.rule_set_version = owned.rule_set_version
            and rule_set_statuses.status = spans.status
    where rule_set_statuses.is_excludable

),

with_use as (

    select
        *,
        coalesce(
            sum(covered_seconds) over (
                partition by evse_key, local_month, rule_set, rule_set_version, category
                order by span_from, piece_from
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as used_before_seconds
    from covered

),

capped as (

    select
        *,
        case
            when cap_seconds is null then covered_seconds
            else least(covered_seconds, greatest(cap_seconds - used_before_seconds, 0))
        end as seconds
    from with_use

),

daily as (

    select
        evse_key,
        local_month,
        local_date,
        status,
        rule_set,
        rule_set_version,
        exclusion_id,
        category,
        sum(covered_seconds)::integer as covered_seconds,
        sum(seconds)::integer as seconds
    from capped
    group by evse_key, local_month, local_date, status, rule_set, rule_set_version, exclusion_id, category

)

select * from daily
