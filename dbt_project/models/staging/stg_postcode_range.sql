select
    state,
    first_postcode,
    last_postcode
from {{ source('reference', 'postcode_range') }}
where load_key = {{ load_in_force('postcode_ranges') }}
