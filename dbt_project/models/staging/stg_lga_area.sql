select
    code as lga_code,
    name as lga_name
from {{ source('reference', 'area') }}
where load_key = {{ load_in_force('lga_boundaries') }}
