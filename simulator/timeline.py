"""The status of an EVSE to the second: a function of seed, EVSE and time alone.

Whatever window is asked for, the same second has the same status. Use is drawn per EVSE and UTC day, each day
with a generator of its own; a day's use may run into the next day, never further. So a window needs the days
it touches and the one before, and no state is carried over. Over that lie the day's small faults (drawn
alike), then the named faults, then the life of the EVSE (planned, removed).
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from simulator.faults import Effect, faults_within
from simulator.months import DAY_SECONDS, Span
from simulator.world import Evse, Words, World

IDLE = "available"
_FOREVER = 1 << 40

# Relative use by UTC hour: mid-morning to evening in eastern and western Australia.
_HOUR_WEIGHTS = (9, 9, 9, 9, 8, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 1, 1, 2, 3, 5, 7, 8)


class Step(NamedTuple):
    """``status`` holds from ``at`` until the next step."""

    at: int
    status: str


class _Layer(NamedTuple):
    start: int
    end: int
    status: str


def timeline(world: World, evse: Evse, span: Span) -> list[Step]:
    """Return the statuses in a span: the one at its start, then each change, in order."""
    times, statuses = [span.start], [IDLE]
    for layer in _layers(world, evse, span):
        start, end = max(layer.start, span.start), min(layer.end, span.end)
        if start >= end:
            continue
        first, beyond = bisect_left(times, start), bisect_right(times, end)
        times[first:beyond], statuses[first:beyond] = [start, end], [layer.status, statuses[beyond - 1]]
    steps: list[Step] = []
    for at, status in zip(times, statuses, strict=True):
        if at < span.end and (not steps or steps[-1].status != status):
            steps.append(Step(at, status))
    return steps


def status_at(world: World, evse: Evse, at: int) -> str:
    """Return the status in one second."""
    return timeline(world, evse, Span(at, at + 1))[0].status


def absences(evse: Evse, span: Span) -> list[Span]:
    """Return when a full list leaves the EVSE out."""
    return [
        fault.span
        for fault in faults_within(span, evse.cpo_id)
        if fault.effect is Effect.ABSENT and fault.emi3_id == evse.emi3_id
    ]


def _layers(world: World, evse: Evse, span: Span) -> Iterator[_Layer]:
    """Yield what lies over idle time, each over those before it."""
    days = range(span.start // DAY_SECONDS - 1, (span.end - 1) // DAY_SECONDS + 1)
    has_all_words = world.cpo(evse.cpo_id).words is Words.CANONICAL
    for day in days:
        yield from _use(world.seed, evse.uid, evse.sessions_per_day, evse.is_fast, has_all_words, day)
    for day in days:
        yield from _small_faults(world.seed, evse.uid, has_all_words, day)
    for fault in faults_within(span, evse.cpo_id):
        if fault.emi3_id == evse.emi3_id and fault.status is not None:
            yield _Layer(*fault.span, fault.status)
    if evse.lifecycle is not None:
        yield _Layer(-_FOREVER, evse.lifecycle.opens, "planned")
        yield _Layer(evse.lifecycle.removed, _FOREVER, "removed")


@lru_cache(maxsize=100_000)
def _use(
    seed: int, uid: str, sessions_per_day: float, is_fast: bool, has_all_words: bool, day: int
) -> tuple[_Layer, ...]:
    """Draw one UTC day of sessions, each with what comes before and after it."""
    rng = random.Random(f"use/{seed}/{uid}/{day}")
    count = int(sessions_per_day) + (rng.random() < sessions_per_day % 1)
    hours = rng.choices(range(24), _HOUR_WEIGHTS, k=count)
    starts = sorted(day * DAY_SECONDS + hour * 3600 + rng.randrange(3600) for hour in hours)
    layers: list[_Layer] = []
    free_from = 0
    for start in starts:
        seconds = rng.randrange(6 * 60, 55 * 60) if is_fast else rng.randrange(40 * 60, 6 * 3600)
        before, tail, after, extra = rng.random(), rng.random(), rng.random(), rng.randrange(120, 1500)
        if start < free_from:
            continue
        if before < 0.05:
            layers.append(_Layer(start, start + extra, "reserved"))
            start += extra
        layers.append(_Layer(start, start + seconds, "charging"))
        end = start + seconds
        if has_all_words and tail < 0.4:
            layers.append(_Layer(end, end + extra, "finishing"))
            end += extra
        if after < 0.03:
            layers.append(_Layer(end, end + extra, "blocked"))
            end += extra
        free_from = end + 60
    return tuple(layers)


@lru_cache(maxsize=100_000)
def _small_faults(seed: int, uid: str, has_all_words: bool, day: int) -> tuple[_Layer, ...]:
    """Draw a UTC day's unnamed faults: on most days none."""
    rng = random.Random(f"fault/{seed}/{uid}/{day}")
    if rng.random() >= 0.04:
        return ()
    words = ["out_of_order"] * 6 + ["inoperative"] * 3 + ["unknown"] + ["unavailable"] * (3 if has_all_words else 0)
    start = day * DAY_SECONDS + rng.randrange(DAY_SECONDS)
    return (_Layer(start, start + int(240 * 200 ** rng.random()), rng.choice(words)),)
