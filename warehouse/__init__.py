"""The database: migrations, roles, connections, and the dbt run. Imports nothing of the other rooms."""
