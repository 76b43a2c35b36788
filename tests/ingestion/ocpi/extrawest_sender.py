"""A CPO made of the package ``extrawest-ocpi``; run by that package's own Python, not the project's.

``python extrawest_sender.py <locations.json> <token>`` listens on a free port of 127.0.0.1 and prints it. The file holds, by OCPI version, the Locations; it
is read again for each answer.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import datetime
from pathlib import Path
from typing import Any


def main() -> None:
    file, token = Path(sys.argv[1]), sys.argv[2]
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    # Read by the package when it is imported.
    os.environ.update(OCPI_HOST=f"127.0.0.1:{port}", PROTOCOL="http")

    import uvicorn
    from py_ocpi import get_application
    from py_ocpi.core.adapter import BaseAdapter
    from py_ocpi.core.authentication.authenticator import Authenticator
    from py_ocpi.core.enums import ModuleID, RoleEnum
    from py_ocpi.modules.versions.enums import VersionNumber

    class Tokens(Authenticator):
        @classmethod
        async def get_valid_token_c(cls) -> list[str]:
            return [token]

        @classmethod
        async def get_valid_token_a(cls) -> list[str]:
            return []

    class Locations:
        @classmethod
        async def list(cls, module: Any, role: Any, filters: Any, *args: Any, version: Any, **kwargs: Any) -> Any:
            items = json.loads(file.read_text(encoding="utf-8"))[version.value]
            if filters["date_from"]:
                items = [item for item in items if datetime.fromisoformat(item["last_updated"]) >= filters["date_from"]]
            end = filters["offset"] + filters["limit"]
            return items[filters["offset"] : end], len(items), end >= len(items)

    app = get_application(
        version_numbers=[VersionNumber.v_2_1_1, VersionNumber.v_2_2_1],
        roles=[RoleEnum.cpo],
        crud=Locations,
        modules=[ModuleID.locations],
        authenticator=Tokens,
        adapter=BaseAdapter,
    )
    print(port, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main()
