select state
from {{ source('reference', 'required_state') }}
where load_key = {{ load_in_force('required_states') }}
