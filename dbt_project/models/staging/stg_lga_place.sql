{{ places_in('lga_boundaries') }}
