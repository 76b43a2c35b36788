select
    asset_id,
    line,
    evse_id,
    evse_port_id,
    cpo_name,
    address,
    suburb,
    postcode,
    lga_code,
    lga_name,
    state,
    latitude,
    longitude,
    coordinate_decimals,
    program,
    round
from {{ source('reference', 'funded_asset') }}
where load_key = {{ load_in_force('government_funded') }}
