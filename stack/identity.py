"""Tell our own processes from strangers that were given the same pid later (Linux ``/proc``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def _stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/<pid>/stat`` from the state on, or None when there is no such process."""
    try:
        line = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may itself hold brackets and blanks.
    return line.rpartition(")")[2].split()


def identity(pid: int) -> str | None:
    """What makes this process itself: this boot and its start time; None when it is dead or a zombie."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}/{fields[19]}"


def all_pids() -> Iterator[int]:
    """Every pid there is now."""
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())


def session_members(leader: int) -> list[int]:
    """Living processes of the session that ``leader`` opened."""
    found = []
    for pid in all_pids():
        fields = _stat(pid)
        if fields is not None and fields[0] not in "ZX" and int(fields[3]) == leader:
            found.append(pid)
    return found


def working_in(folder: Path) -> list[int]:
    """Living processes (of those this user may look at) whose current folder is ``folder``."""
    found = []
    for pid in all_pids():
        try:
            here = os.readlink(PROC / str(pid) / "cwd")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if here == str(folder) and identity(pid) is not None:
            found.append(pid)
    return found
