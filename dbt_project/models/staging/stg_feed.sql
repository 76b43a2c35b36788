select
    feed_key,
    cpo_id,
    cpo_name,
    liveness_seconds,
    has_virtual_evses,
    {{ whole_second('ended_at') }} as ended_at
from {{ source('raw', 'feed') }}
where registered_at <= {{ as_of() }}
