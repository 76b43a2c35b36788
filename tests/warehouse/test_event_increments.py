"""What a run computes anew of outages, sessions and suspects when a little is learnt about long ago."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from tests.warehouse.reading import every_row, rows_of
from tests.warehouse.test_increments import NOW, asset, config, write
from warehouse.connection import Role, connect
from warehouse.transform import transform

EVSES = [f"E{index}" for index in range(8)]
DAYS = 54
SETTINGS = config(liveness_seconds=4000)


def kept_rows() -> dict[str, set[tuple[Any, ...]]]:
    """Rows of the stored events with the transaction that wrote each."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    with connect(Role.TRANSFORM) as connection:
        for model, begin in (("int_evse__outage", "outage_from"), ("int_evse__session", "session_from")):
            found[model] = set(
                connection.execute(
                    f"select it.xmin::text, evse_id, {begin} from intermediate.{model} as it"
                    " inner join marts.dim_evse using (evse_key)"
                ).fetchall()
            )
    return found


@pytest.mark.usefixtures("warehouse")
def test_a_late_word_renews_the_events_of_its_evse_and_leaves_all_others() -> None:
    chance = random.Random(3)
    start = NOW - timedelta(days=DAYS)
    words = ("available", "available", "charging", "finishing", "out_of_order", "unavailable", "unknown")
    write(
        assets=[asset(evse, valid_from=start) for evse in EVSES],
        changes=[
            # E0 stays broken and E1 is only available: what is as old as the feed.
            (evse, "out_of_order" if evse == "E0" else "available" if evse == "E1" else chance.choice(words), at)
            for evse in EVSES
            for at in sorted(start + timedelta(hours=hours) for hours in chance.sample(range(DAYS * 24), 150))
        ],
        polls=[start + timedelta(hours=hour) for hour in range(DAYS * 24) if hour % 97 > 3],
        settings=SETTINGS,
    )
    transform()
    e0 = "evse_key in (select evse_key from marts.dim_evse where evse_id = 'E0') and rule_set = 'evc_2025'"
    assert len(rows_of("fct_evse_outage", "outage_from", e0)) == 1
    ((idle_from,),) = rows_of("fct_evse_suspect", "suspect_from", "kind = 'zombie' and is_open")
    assert idle_from < start + timedelta(days=2)
    before = kept_rows()
    late = start + timedelta(days=20, minutes=7)
    write(changes=[("E0", "available", late), ("E1", "charging", late), ("E5", "charging", late)], settings=SETTINGS)
    done = transform()
    after = kept_rows()
    assert {evse for _, evse, _ in after["int_evse__session"] - before["int_evse__session"]} >= {"E1", "E5"}
    for model in before:
        # Of the others, what was going on when their last day began.
        old = {(evse, at) for _, evse, at in after[model] - before[model] if at < late + timedelta(days=5)}
        assert {evse for evse, _ in old} <= {"E0", "E1", "E5"}
        assert min((at for evse, at in old if evse == "E5"), default=late) > late - timedelta(days=6)
        assert {evse for _, evse, _ in after[model] & before[model]} >= {"E2", "E3", "E4", "E5", "E6", "E7"}
    # The outage of E0 and the idleness of E1 began with the feed.
    assert len(rows_of("fct_evse_outage", "outage_from", e0)) == 2
    ((idle_from,),) = rows_of("fct_evse_suspect", "suspect_from", "kind = 'zombie' and is_open")
    assert idle_from > late
    incremental = every_row()
    transform(full_refresh=True, as_of=done.as_of)
    assert every_row() == incremental
