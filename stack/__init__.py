"""Every process on one machine without Docker: Postgres, the simulated CPOs, Airflow.

May import every other package; no other package imports this one.
"""
