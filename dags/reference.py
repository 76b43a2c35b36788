"""`load_reference`: read the reference files in the object store: postcodes, areas, funded assets, decisions about these. Kind: **now**.

Monthly, and by hand whenever somebody put a new file there. A file whose content is in force already is not loaded again.

**When a run fails**, nothing was loaded, and the marts go on with what was loaded before. The log lists every file that is missing (where it was looked for,
what it is for) and every row that is wrong (file, line, field). Mend the files and trigger a new run; what they say is in docs/reference.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, get_current_context, task

with DAG(
    dag_id="load_reference",
    description="Reference files from the object store",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 16 1 * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={"owner": "data-engineering", "retries": 1, "retry_delay": timedelta(minutes=1)},
    tags=["reference", "kind:now", "impact:medium"],
):

    @task(execution_timeout=timedelta(minutes=30))
    def load_files() -> list[str]:
        """Load all files, or none; return what became of each."""
        from reference.loading import load
        from warehouse.connection import Role, connect

        run_id = get_current_context()["dag_run"].run_id
        with connect(Role.REGISTRAR) as connection:
            return [str(file) for file in load(connection, loaded_by=f"load_reference {run_id}")]

    load_files()
