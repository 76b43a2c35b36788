select
    feed_key,
    contact_key,
    {{ whole_second('contact_from') }} as contact_from,
    {{ whole_second('contact_until') }} as contact_until,
    contact_from as contact_from_exact,
    contact_until as contact_until_exact,
    outcome,
    detail,
    recorded_at
from {{ source('raw', 'feed_contact') }}
where recorded_at <= {{ as_of() }} and contact_from < {{ as_of() }}
