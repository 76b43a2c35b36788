"""Files left in a folder: CSV, Parquet or JSON, each a snapshot of every EVSE or what changed since the last one."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simulator.live import update
from simulator.rest import station
from simulator.serving import Feed, party_text, to_json
from simulator.telling import Follower, Message, record

NAME = "files"
NAME_TIME = "%Y%m%dT%H%M%S.%fZ"
"""How the time stands in a file's name: ``snapshots_20261014T020000.250000Z.csv``."""


class DropOrder(BaseModel):
    """What ``POST /control/<feed>/drop`` takes."""

    model_config = ConfigDict(extra="forbid")

    folder: Path
    every: float = Field(default=60, gt=0)
    """Seconds between files."""
    format: Literal["csv", "parquet", "json"] = "csv"
    what: Literal["snapshots", "changes"] = "snapshots"


class Dropper:
    """Writes one feed's files. ``step`` writes what is due at a time: pure of clocks, so that it can be tested."""

    def __init__(self, feed: Feed, order: DropOrder, since: datetime) -> None:
        self._feed = feed
        self._order = order
        self._follower = Follower(feed, NAME, since)
        self._held: list[tuple[datetime, str, bytes]] = []

    def step(self, at: datetime) -> list[Path]:
        """Write the file of ``at``, and those that were held until now; return their paths."""
        board = self._feed.board
        if not board.spoils("silence", NAME):
            late = board.spoils("late", NAME) if self._order.what == "snapshots" else None
            stem = f"{self._order.what}_{at.strftime(NAME_TIME)}"
            content = self._spoiled(encode(self._rows(at), self._order.format))
            copies = 2 if board.spoils("duplicate", NAME) else 1
            for number in range(copies):
                name = f"{stem}{'_again' * number}.{self._order.format}"
                self._held.append((at + timedelta(seconds=late.wait if late else 0), name, content))
        due = [one for one in self._held if one[0] <= at]
        self._held = [one for one in self._held if one[0] > at]
        return [write(self._order.folder / name, content) for _, name, content in due]

    def _rows(self, at: datetime) -> list[dict[str, Any]]:
        if self._order.what == "snapshots":
            return snapshot_rows([station(place) for place in self._feed.locations(NAME, at)])
        told = [one for message in self._follower.due(at) for one in message.told]
        if told:
            record(self._feed, NAME, Message(told, at))
        return [
            {
                "network": party_text(one.change.party),
                "station": None,
                "ref": None,
                "state": None,
                "changed": None,
                **update(one),
            }
            for one in told
        ]

    def _spoiled(self, content: bytes) -> bytes:
        board = self._feed.board
        if board.spoils("html", NAME):
            return b"<!doctype html><title>Sign in</title><h1>Please sign in</h1>"
        return content[: len(content) // 2] if board.spoils("truncated", NAME) else content


async def drop(feed: Feed, order: DropOrder) -> None:
    """Write a file every so many seconds, until cancelled."""
    dropper = Dropper(feed, order, feed.clock())
    while True:
        dropper.step(feed.clock())
        await asyncio.sleep(order.every)


def snapshot_rows(stations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a row per plug, with its point and station."""
    rows = []
    for place in stations:
        for point in place["points"] or []:
            for plug in point["plugs"] or [{}]:
                row = {
                    f"station_{key}" if key in ("code", "title") else key: value
                    for key, value in place.items()
                    if key != "points"
                }
                row |= {key: value for key, value in point.items() if key != "plugs"}
                rows.append(row | {f"plug_{key}": value for key, value in plug.items()})
    return rows


def encode(rows: list[dict[str, Any]], form: str) -> bytes:
    """Write rows as CSV, Parquet (times as such) or a JSON list."""
    if form == "json":
        return to_json(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if form == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    # Heavy, and needed by nothing else.
    import pyarrow
    import pyarrow.parquet

    # A table has the columns of its first row: that one may lack some.
    whole: list[dict[str, Any]] = [dict.fromkeys(columns) | row for row in rows]
    timed = [{**row, "changed": row.get("changed") and datetime.fromisoformat(row["changed"])} for row in whole]
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(timed), file)
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    """Write a file at once: whoever lists the folder sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
    return path
