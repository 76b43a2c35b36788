"""`transform_warehouse`: dbt builds and tests the marts, only for EVSEs and days that were touched. Kind: **now**.

Runs after any ingestion that brought something, and at least every half hour, because time itself passes.

**When a run fails**: the log of `build_marts` names the model or test and counts its rows. The marts keep what the last finished model left, the next run computes again
all that this one should have; nothing is lost by failing. Mend the cause and trigger a new run. To compute everything anew, trigger it with `full_refresh`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import (
    DAG,
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Param,
    get_current_context,
    task,
)

from ingestion.config import cpo_ids

observations = [Asset(f"raw/{cpo_id}") for cpo_id in cpo_ids()]
marts = Asset("marts")

with DAG(
    dag_id="transform_warehouse",
    description="raw to marts by dbt, incrementally",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("10,40 * * * *", timezone="UTC"), assets=AssetAny(*observations)
    ),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    default_args={"owner": "data-engineering", "retries": 1, "retry_delay": timedelta(seconds=30)},
    params={"full_refresh": Param(False, type="boolean", description="Compute every EVSE and day anew")},
    tags=["transform", "kind:now", "impact:high"],
):

    @task(execution_timeout=timedelta(minutes=10))
    def locate_sites() -> int:
        """Find the areas that new coordinates lie in: the marts read what was found."""
        from reference.locating import locate
        from warehouse.connection import Role, connect

        with connect(Role.REGISTRAR) as connection:
            return locate(connection)

    @task(outlets=[marts], execution_timeout=timedelta(hours=2))
    def build_marts() -> None:
        """Run `dbt build` in this process."""
        from warehouse.transform import transform

        context = get_current_context()
        done = transform(full_refresh=context["params"]["full_refresh"])
        context["outlet_events"][marts].extra = {
            "as_of": done.as_of.isoformat(),
            "is_full_refresh": done.is_full_refresh,
            "seconds": round(done.seconds, 1),
        }

    locate_sites() >> build_marts()
