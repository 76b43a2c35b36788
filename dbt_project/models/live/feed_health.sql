{{ config(alias='feed_health') }}

with feeds as (

    select * from {{ source('raw', 'feed') }}

),

evses as (

    select * from {{ source('raw', 'evse') }}

),

statuses as (

    select * from {{ ref('evse_status') }}

),

counted as (

    select
        evses.feed_key,
        max(statuses.last_contact_at) as last_contact_at,
        max(statuses.known_until) as known_until,
        count(*)::integer as evse_count,
        {%- for status in told_statuses() %}
        count(*) filter (where statuses.status = '{{ status }}')::integer as {{ status }}_count{{ ',' if not loop.last }}
        {%- endfor %}
    from statuses
    inner join evses on evses.evse_key = statuses.evse_key
    group by evses.feed_key

)

select
    feeds.feed_key::integer as cpo_key,
    feeds.cpo_id,
    feeds.cpo_name,
    feeds.kind,
    feeds.liveness_seconds,
    counted.last_contact_at,
    counted.known_until,
    coalesce(counted.evse_count, 0) as evse_count,
    {%- for status in told_statuses() %}
    coalesce(counted.{{ status }}_count, 0) as {{ status }}_count{{ ',' if not loop.last }}
    {%- endfor %}
from feeds
left join counted on counted.feed_key = feeds.feed_key
