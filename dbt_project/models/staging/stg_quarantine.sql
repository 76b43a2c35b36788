-- What became of a record after the cut-off is not known yet.
select
    quarantine_key,
    feed_key,
    first_seen_at,
    least(
        case when gone_at < {{ as_of() }} then gone_at end,
        case when resolved_at < {{ as_of() }} then resolved_at end
    ) as closed_at
from {{ source('raw', 'quarantine') }}
where recorded_at <= {{ as_of() }} and first_seen_at < {{ as_of() }}
