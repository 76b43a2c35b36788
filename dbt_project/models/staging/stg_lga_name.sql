select
    written_name,
    lga_code,
    lga_name
from {{ source('reference', 'lga_name') }}
where load_key = {{ load_in_force('lga_lookup') }}
