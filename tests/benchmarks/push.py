"""Measure the receiver: ``python -m tests.benchmarks.push [--kill]``.

Starts a Postgres that writes through to the disk, a receiver on one core, and a process that sends EVSE status PATCHes over connections that are kept. Prints
PATCHes a second, how long one takes, and the receiver's processor time for each. ``--kill`` kills the receiver in the middle and looks for every PATCH that
was answered with 2xx in ``raw``.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

from stack.databases import OWNER, ensure_owner, migrate
from stack.postgres import EmbeddedPostgres
from tests.benchmarks.verdicts import Verdicts
from tests.ingestion.receiver.push_world import ReceiverProcess, dumps, evse, issue, location, patch_of, write_cpo
from warehouse.connection import Role, connect, var_dir

EVSES_PER_LOCATION = 4
LEAST_PATCHES_A_SECOND = 500


@dataclass
class Sent:
    """What the sender saw. ``accepted``: feed, EVSE's identity, status, time of each PATCH that was answered with 2xx."""

    accepted: list[tuple[str, str, str, datetime]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    broken: int = 0
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class Load:
    """How much is sent: by ``senders`` connections for ``seconds``, one PATCH at a time each."""

    port: int
    tokens: dict[str, str]
    evses_per_feed: int
    senders: int
    seconds: float


async def _send(load: Load, number: int, until: float, sent: Sent) -> None:
    feeds = sorted(load.tokens)
    feed = feeds[number % len(feeds)]
    own = range(number // len(feeds), load.evses_per_feed, max(load.senders // len(feeds), 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
    turn = 0
    try:
        while time.monotonic() < until:
            for index in own:
                place, uid = f"LOC{index // EVSES_PER_LOCATION}", f"E{index}"
                status, at = ("CHARGING", "AVAILABLE")[turn % 2], datetime.now(UTC)
                body = dumps(patch_of(status, at))
                began = time.perf_counter()
                writer.write(
                    f"PATCH /ocpi/2.2.1/locations/AU/ABC/{place}/{uid} HTTP/1.1\r\nHost: x\r\n"
                    f"Authorization: Token {load.tokens[feed]}\r\nX-Request-ID: {number}-{turn}-{index}\r\n"
                    f"X-Correlation-ID: {number}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                answer = await reader.readexactly(length)
                sent.seconds.append(time.perf_counter() - began)
                if head[9:10] == b"2" and b'"status_code": 1000' in answer:
                    sent.accepted.append((feed, f"{place}/{uid}".casefold(), status, at))
                else:
                    sent.refused += 1
                if time.monotonic() >= until:
                    break
            turn += 1
    except (ConnectionError, asyncio.IncompleteReadError):
        sent.broken += 1
    finally:
        writer.close()


def _sender(pipe: Connection, load: Load) -> None:
    async def everything() -> Sent:
        sent = Sent()
        began = time.monotonic()
        await asyncio.gather(*(_send(load, number, began + load.seconds, sent) for number in range(load.senders)))
        sent.wall_seconds = time.monotonic() - began
        return sent

    pipe.send(asyncio.run(everything()))


def send(load: Load, meanwhile: float | None = None, receiver: ReceiverProcess | None = None) -> Sent:
    """Send the load from another process; after ``meanwhile`` seconds kill the receiver."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_sender, args=(theirs, load), daemon=True)
    process.start()
    if meanwhile is not None and receiver is not None:
        time.sleep(meanwhile)
        receiver.process.send_signal(signal.SIGKILL)
        receiver.process.wait()
    sent: Sent = ours.recv()
    process.join()
    return sent


def lost(sent: Sent) -> list[tuple[str, str, str, datetime]]:
    """PATCHes that were accepted and are not in ``raw`` (a status that was told again adds none; here each differs from the last)."""
    with connect(Role.INGEST) as connection:
        stored = set(
            connection.execute(
                """
                select feed_id, evse_ref, status_word, observed_at
                from raw.status_change
                inner join raw.evse using (evse_key)
                inner join raw.feed on feed.feed_key = evse.feed_key
                """
            ).fetchall()
        )
    return [one for one in sent.accepted if one not in stored]


def fill(receiver: ReceiverProcess, tokens: dict[str, str], evses_per_feed: int) -> None:
    """PUT every Location."""
    with httpx.Client(base_url=receiver.url, timeout=60) as client:
        for token in tokens.values():
            for first in range(0, evses_per_feed, EVSES_PER_LOCATION):
                place = f"LOC{first // EVSES_PER_LOCATION}"
                made = location(
                    place,
                    [evse(f"E{index}") for index in range(first, min(first + EVSES_PER_LOCATION, evses_per_feed))],
                    directions=[{"language": "en", "text": "Behind the petrol station, left of the gate. " * 4}],
                )
                answer = client.put(
                    f"/ocpi/2.2.1/locations/AU/ABC/{place}",
                    headers={"Authorization": f"Token {token}"},
                    content=dumps(made),
                )
                answer.raise_for_status()


def is_good(sent: Sent, missing: int, used: float | None, least_patches_a_second: float) -> bool:
    """Print what came out; whether something was accepted, nothing of it is missing and, where ``used`` (CPU-seconds) was measured, it was quick."""
    verdicts = Verdicts()
    print(
        f"{len(sent.accepted)} PATCHes accepted by 2xx: {verdicts.at_least(len(sent.accepted), 1, '1')}; {sent.refused} refused,"
        f" {sent.broken} connections broken; {missing} of the accepted not in raw: {verdicts.at_most(missing, 0, '0')}"
    )
    if used is not None and sent.accepted:
        in_order = sorted(sent.seconds)
        rate = len(sent.accepted) / sent.wall_seconds
        print(
            f"{rate:.0f} PATCHes a second: {verdicts.at_least(rate, least_patches_a_second, f'{least_patches_a_second:g}')};"
            f" p50 {statistics.median(in_order) * 1000:.0f} ms, p95 {in_order[int(len(in_order) * 0.95)] * 1000:.0f} ms,"
            f" {used / len(sent.accepted) * 1000:.2f} CPU-ms of the receiver for each"
        )
    return verdicts.all_hold


def main(arguments: list[str] | None = None, least_patches_a_second: float = LEAST_PATCHES_A_SECOND) -> int:
    """Run it; the exit status says whether every bound held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feeds", type=int, default=5)
    parser.add_argument("--evses", type=int, default=2000, help="of all feeds together (%(default)s)")
    parser.add_argument("--senders", type=int, default=50, help="connections (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="(%(default)s)")
    parser.add_argument("--kill", action="store_true", help="kill the receiver in the middle, and count what is lost")
    chosen = parser.parse_args(arguments)
    parent = var_dir() / "test"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres", settings={"synchronous_commit": "on", "fsync": "on"})
    server.folder.mkdir(mode=0o711)
    cores = sorted(os.sched_getaffinity(0))
    try:
        server.start()
        ensure_owner(server)
        server.create_database("bench", owner=OWNER)
        os.environ["WAREHOUSE_URL"] = server.url("bench", OWNER)
        migrate()
        feeds = [f"feed{number}" for number in range(chosen.feeds)]
        for feed in feeds:
            write_cpo(folder / "cpos", feed)
        tokens = {feed: issue(feed) for feed in feeds}
        receiver = ReceiverProcess(folder / "cpos", folder / "receiver.log", cores={cores[-1]})
        try:
            fill(receiver, tokens, chosen.evses // chosen.feeds)
            load = Load(receiver.port, tokens, chosen.evses // chosen.feeds, chosen.senders, chosen.seconds)
            before = receiver.cpu_seconds()
            sent = send(load, chosen.seconds / 2, receiver) if chosen.kill else send(load)
            used = None if chosen.kill else receiver.cpu_seconds() - before
        finally:
            receiver.stop()
        return 0 if is_good(sent, len(lost(sent)), used, least_patches_a_second) else 1
    finally:
        server.remove()
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
