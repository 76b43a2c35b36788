"""Small files that several processes share: locks, secrets, state."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; waits while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The descriptor is not inherited: a server started inside does not keep the lock.
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step; only the owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file, or an empty mapping when it does not exist."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def secret_file(path: Path, byte_count: int = 32) -> str:
    """Content of a secret file (0600); the first call generates it."""
    with locked(path.parent / ".lock"):
        if not path.exists():
            write_private(path, secrets.token_urlsafe(byte_count))
        return path.read_text(encoding="utf-8").strip()
