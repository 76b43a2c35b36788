{{ touched_days_of('charger') }}
