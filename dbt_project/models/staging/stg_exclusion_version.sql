select
    exclusion_version_key,
    exclusion_id,
    evse_key,
    {{ whole_second('excluded_from') }} as excluded_from,
    {{ whole_second('excluded_until') }} as excluded_until,
    category,
    evidence,
    entered_by,
    entered_at,
    decision,
    decided_by,
    decided_at,
    note,
    recorded_at
from {{ source('register', 'exclusion_version') }}
where recorded_at <= {{ as_of() }}
