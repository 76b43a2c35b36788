{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_events('outage_from') }}",
    indexes=[
        {'columns': ['evse_key', 'outage_from', 'rule_set', 'rule_set_version'], 'unique': true},
        {'columns': ['evse_key', 'down_until']},
        {'columns': ['outage_from']},
    ],
) }}

with restarts as (

    select * from {{ ref('int_evse__event_restart') }}

),

services as (

    select * from {{ ref('int_evse__service') }}

),

-- What a rule-set does not measure is a gap: it may lie inside an outage, and is no part of its down time.
classes as (

    select * from {{ ref('rule_set_statuses') }}
    where class in ('down', 'not_measured')

),

spans as (

    {{ spans_since_restart('status in (select classes.status from classes)') }}

),

-- Spans that follow each other without anything else between them have the same number: time less the time already laid out.
laid_out as (

    select
        spans.evse_key,
        classes.rule_set,
        classes.rule_set_version,
        classes.class,
        spans.span_from,
        spans.span_until,
        spans.seconds,
        spans.status,
        spans.status_word,
        spans.change_key,
        extract(epoch from spans.span_until)::bigint - sum(spans.seconds) over (
            partition by spans.evse_key, classes.rule_set, classes.rule_set_version
            order by spans.span_from
            rows between unbounded preceding and current row
        ) as stretch_number
    from spans
    inner join classes on classes.status = spans.status

),

with_previous as (

    select
        *,
        lag(stretch_number) over in_time as previous_stretch_number,
        lag(span_until) over in_time as previous_until,
        lag(status) over in_time as previous_status
    from laid_out
    where class = 'down'
    window in_time as (partition by evse_key, rule_set, rule_set_version order by span_from)

),

-- A gap does not split an outage when the status is the same on both sides. When it is another one, something happened that nobody saw.
numbered as (

    select
        *,
        count(*) filter (
            where previous_stretch_number is distinct from stretch_number
                or (previous_until < span_from and previous_status <> status)
        ) over (
            partition by evse_key, rule_set, rule_set_version
            order by span_from
            rows between unbounded preceding and current row
        ) as outage_number
    from with_previous

),

by_word as (

    select
        evse_key,
        rule_set,
        rule_set_version,
        outage_number,
        status_word,
        min(span_from) as first_from,
        max(span_until) as last_until,
        sum(seconds) as seconds,
        (array_agg(status order by span_from))[1] as first_status,
        (array_agg(status order by span_from desc))[1] as last_status,
        (array_agg(change_key order by span_from))[1] as first_change_key
    from numbered
    group by evse_key, rule_set, rule_set_version, outage_number, status_word

),

outages as (

    select
        evse_key,
        rule_set,
        rule_set_version,
        min(first_from) as outage_from,
        max(last_until) as down_until,
        sum(seconds)::bigint as down_seconds,
        (array_agg(first_status order by first_from))[1] as first_status,
        (array_agg(last_status order by last_until desc))[1] as last_status,
        string_agg(status_word, ', ' order by first_from) as status_words,
        (array_agg(first_change_key order by first_from))[1] as opened_by_change_key
    from by_word
    group by evse_key, rule_set, rule_set_version, outage_number

),

-- The first that is measured after it ended it, be it after a gap.
with_end as (

    select
        outages.*,
        seen.span_from as seen_ended_at,
        seen.status as next_status,
        seen.change_key as closed_by_change_key,
        seen.span_from is null and coalesce(services.ended_at > {{ as_of() }}, true) as is_open
    from outages
    inner join services on services.evse_key = outages.evse_key
    left join lateral (
        select
            following.span_from,
            following.status,
            following.change_key
        from {{ ref('int_evse__status_span') }} as following
        where following.evse_key = outages.evse_key
            and following.span_from >= outages.down_until
            and not exists (
                select 1
                from classes
                where classes.rule_set = outages.rule_set
                    and classes.rule_set_version = outages.rule_set_version
                    and classes.status = following.status
                    and classes.class = 'not_measured'
            )
        order by following.span_from
        limit 1
    ) as seen on true

)

select
    evse_key,
    rule_set,
    rule_set_version,
    outage_from,
    down_until,
    is_open,
    down_seconds,
    first_status,
    last_status,
    status_words,
    opened_by_change_key,
    seen_ended_at,
    next_status,
    closed_by_change_key
from with_end
