select
    listed_name,
    cpo_id
from {{ source('reference', 'cpo_name') }}
where load_key = {{ load_in_force('cpo_names') }}
