"""Measure one poll of a large feed: ``python tests/ingestion/ocpi/benchmark_pull.py [evses]``.

Prints CPU seconds of the client (the server is another process), for the first answer, for one with a few
changes, and for one that differs by the envelope's timestamp only.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from scripted_server import OcpiScript, ScriptedServer, location, pull_config

from ingestion.http import HttpTransport
from ingestion.ocpi.pull import OcpiPull


def large_list(evse_count: int) -> list[dict[str, Any]]:
    """Locations of four EVSEs with two connectors each, as wordy as real ones."""
    made = []
    for number in range(evse_count // 4):
        item = location(f"LOC{number:05}", evse_count=4, connector_count=2)
        item["directions"] = [{"language": "en", "text": "Behind the petrol station, left of the gate. " * 4}]
        item["opening_times"] = {"twentyfourseven": True}
        for evse in item["evses"]:
            evse["capabilities"] = ["RESERVABLE", "RFID_READER", "REMOTE_START_STOP_CAPABLE"]
        made.append(item)
    return made


def _serve(pipe: Connection, evse_count: int, page_cap: int) -> None:
    script = OcpiScript(large_list(evse_count), page_cap=page_cap)
    with ScriptedServer() as server:
        script.mount(server)
        pipe.send((server.url, len(json.dumps(script.items))))
        while pipe.recv() == "change":
            for item in script.items[::50]:
                item["evses"][0]["status"] = "CHARGING"
            pipe.send("changed")


def main() -> None:
    evse_count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for page_cap in (10**9, 100):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=_serve, args=(theirs, evse_count, page_cap), daemon=True)
        process.start()
        url, size = ours.recv()
        feed = OcpiPull(pull_config(url), f"{url}/ocpi/versions", "token", HttpTransport())
        print(f"{evse_count} EVSEs, {size / 1e6:.1f} MB, {'one page' if page_cap > 1e6 else 'pages of 100'}")
        for name in ("first", "unchanged", "changed", "unchanged again"):
            if name == "changed":
                ours.send("change")
                ours.recv()
            wall, cpu = time.perf_counter(), time.process_time()
            poll = feed.poll()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(
                f"  {name:16} {cpu:.3f} CPU-s {wall:.3f} s; unchanged={poll.is_unchanged}"
                f" assets={len(poll.assets)} EVSEs={len(poll.statuses)} rejected={len(poll.rejected)}"
            )
        feed.close()
        ours.send("stop")
        process.join(10)


if __name__ == "__main__":
    main()
