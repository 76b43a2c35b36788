select
    asset_id,
    evse_ids,
    decided_by,
    decided_at,
    note
from {{ source('reference', 'funding_decision') }}
where load_key = {{ load_in_force('funding_decisions') }}
