{{ touched_days_of('site') }}
