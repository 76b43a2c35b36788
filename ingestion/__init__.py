"""Feeds in, rows in ``raw.*`` out. Plain Python: imports ``warehouse`` and nothing else of the project, and no Airflow."""
