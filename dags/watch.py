"""`watch_feeds`: fails loudly when a feed has been silent for longer than its `alert_after_minutes`. Kind: **now**.

One task per file in `config/cpos/`, every five minutes. Feeds that only hand over files or have ended are skipped. A new feed is
expected from the first time on that it is watched: also one whose CPO sends by itself and never does.

**When a task fails**: its log names the last contact, why the feed failed last, and what to do ("A feed is silent" in docs/runbook.md). What is not collected
now is gone. The task is green again by itself once the feed is heard; a failed run needs no clearing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, task
from airflow.sdk.exceptions import AirflowSkipException

from ingestion.config import cpo_ids

with DAG(
    dag_id="watch_feeds",
    description="Fail when a feed is silent",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=4),
    # An alert is an answer: asking again would delay it.
    default_args={"owner": "data-engineering", "retries": 0},
    tags=["watch", "kind:now", "impact:high"],
):

    @task(execution_timeout=timedelta(minutes=2))
    def watch(cpo_id: str) -> str:
        """Ask the warehouse when the feed was heard last; fail when that is too long ago."""
        from ingestion.runs import watch_feed

        health = watch_feed(cpo_id, datetime.now(UTC))
        if health is None:
            raise AirflowSkipException(f"{cpo_id} is not watched: it hands over files, or has ended")
        return health

    for each_cpo in cpo_ids():
        watch.override(task_id=f"watch_{each_cpo}")(each_cpo)
