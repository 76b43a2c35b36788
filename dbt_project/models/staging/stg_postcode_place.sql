{{ places_in('postcode_boundaries') }}
