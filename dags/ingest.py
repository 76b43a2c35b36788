"""One DAG per file in `config/cpos/`: `ingest_<cpo_id>`. Kind: **now** (what was not collected in time is gone).

A run is one collection window. It imports the hand-over folders that wait below `var/inbox/<cpo_id>/`, and polls the feed (or listens to its stream, or looks
for its files) until half a minute after the next window has begun. Overlapping runs and retries write nothing twice and lose nothing at the hand-over.

**When a run fails**: its log says whether the CPO's file, its feed or the warehouse is at fault. Mend that and trigger a new run; clearing an old
run does not bring lost time back, which stays `missing`. A secret that the CPO's file names is an environment variable (or a file that `<name>_FILE` names), or
the password of the Airflow connection of that name in lower case. Records that could not be taken: `python -m ingestion quarantine --cpo <cpo_id>`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, CronTriggerTimetable, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from ingestion.config import cpo_ids, secret
from warehouse.strict_yaml import ConfigError


def find_secret(name: str) -> str:
    """Value of a secret: the environment's (or its file's), else the password of the Airflow connection of that name in lower case."""
    try:
        return secret(name)
    except ConfigError as reason:
        missing = str(reason)
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        password = Connection.get(name.lower()).password
    except AirflowNotFoundException:
        password = None
    if not password:
        raise ConfigError(f"{missing}, nor has Airflow a connection '{name.lower()}' with a password")
    return str(password)


def make_dag(cpo_id: str) -> DAG:
    """The DAG of one CPO; reads no more than the file's name."""
    observations = Asset(f"raw/{cpo_id}")
    with DAG(
        dag_id=f"ingest_{cpo_id}",
        description=f"Collect what {cpo_id} sends into raw",
        doc_md=__doc__,
        schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=2,
        dagrun_timeout=timedelta(minutes=30),
        default_args={"owner": "data-engineering", "retries": 2, "retry_delay": timedelta(seconds=10)},
        tags=["ingest", "kind:now", "impact:high"],
    ) as dag:

        @task(outlets=[observations], execution_timeout=timedelta(minutes=25))
        def import_history() -> None:
            """Import hand-over folders that wait; skip when there are none."""
            from ingestion.runs import import_waiting_files

            imported = import_waiting_files(cpo_id)
            if not imported:
                raise AirflowSkipException("no hand-over folder waits")
            get_current_context()["outlet_events"][observations].extra = {"imported": [str(one) for one in imported]}

        @task(outlets=[observations], execution_timeout=timedelta(minutes=20))
        def collect() -> None:
            """Poll the feed, listen to it or look for its files for the run's window; skip when it sends by itself; fail when all was in vain."""
            from ingestion.runs import NotPolledError, collect_window

            context = get_current_context()
            try:
                totals = collect_window(cpo_id, context["dag_run"].run_after, find_secret)
            except NotPolledError as reason:
                raise AirflowSkipException(str(reason)) from reason
            context["outlet_events"][observations].extra = {"collected": str(totals)}

        import_history()
        collect()
    return dag


for each_cpo in cpo_ids():
    globals()[f"ingest_{each_cpo}"] = make_dag(each_cpo)
