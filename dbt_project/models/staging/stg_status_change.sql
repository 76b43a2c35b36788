-- A second is the unit of all arithmetic: times are truncated here and nowhere else.
select
    evse_key,
    feed_key,
    change_key,
    {{ whole_second('observed_at') }} as observed_at,
    observed_at as observed_at_exact,
    status_word,
    status_profile,
    received_at,
    recorded_at
from {{ source('raw', 'status_change') }}
where recorded_at <= {{ as_of() }} and observed_at < {{ as_of() }}
