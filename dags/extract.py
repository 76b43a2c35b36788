"""One DAG per block of `config/recipients.yml`: `extract_<recipient_id>`. Kind: **interval** (the month just ended, or the one named in `month`).

Selects the rows of the recipient and month, has the gate judge exactly these rows, and publishes the package once.

**When `check` fails**, the extract is blocked: the log and the HTML report named in it say which fact does not hold, how often, with examples. Mend the data
or its cause, let `transform_warehouse` run, then clear the run from `select`. **When `publish` finds a revision already there**, it
writes nothing and says so; to replace a published month, trigger the DAG with `month` and a `revision_reason`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, get_current_context, task

from extracts.recipients import Recipient, load_recipients


def make_dag(recipient_id: str, recipient: Recipient) -> DAG:
    """The DAG of one recipient."""
    with DAG(
        dag_id=f"extract_{recipient_id}",
        description=f"Monthly extract for {recipient.name}",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(f"0 {recipient.hour} {recipient.day} * *", timezone=recipient.time_zone),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=6),
        default_args={"owner": "reporting", "retries": 1, "retry_delay": timedelta(minutes=1)},
        params={
            "month": Param(
                "",
                type="string",
                pattern=r"^(\d{4}-(0[1-9]|1[0-2]))?$",
                description="YYYY-MM; empty: the month just ended",
            ),
            "revision_reason": Param(
                "", type="string", description="Why a published month is extracted again (makes r2, r3, ...)"
            ),
        },
        tags=["extract", "kind:interval", "impact:high"],
    ) as dag:

        @task(execution_timeout=timedelta(hours=1))
        def select() -> str:
            """Set the rows of the recipient and month aside; return the candidate's path."""
            from expectations.months import month_just_ended
            from extracts.tasks import select_rows

            context = get_current_context()
            month = context["params"]["month"] or month_just_ended(context["dag_run"].run_after, recipient.time_zone)
            return select_rows(recipient_id, month)

        # A block is an answer, not an accident: asking again would give the same one.
        @task(execution_timeout=timedelta(hours=1), retries=0)
        def check(candidate: str) -> str:
            """Ask the gate; fail when it blocks."""
            from extracts.tasks import check_rows

            check_rows(candidate)
            return candidate

        @task(execution_timeout=timedelta(hours=2))
        def publish(candidate: str) -> str:
            """Write the package once; return its path in the object store."""
            from extracts.tasks import publish_package

            return publish_package(candidate, get_current_context()["params"]["revision_reason"] or None)

        publish(check(select()))
    return dag


for each_id, each_recipient in load_recipients().items():
    globals()[f"extract_{each_id}"] = make_dag(each_id, each_recipient)
