"""Write a package once: ``extracts/<recipient>/<YYYY-MM>/r<N>/``.

The manifest is written last, only if there is none: it is what publishes. A folder without a manifest is no
package, and readers skip it. A lock per recipient and month lets one run at a time write; what a crashed run
left of an unpublished revision is removed under that lock, every object is created (never overwritten) and
read back, and the lock is checked before anything is removed and before the manifest. From then on nothing
of the revision is touched again.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from expectations.candidate import Candidate
from expectations.gate import GateRecord
from extracts.locks import Lock, Locks
from extracts.package import MANIFEST, data_files, manifest
from warehouse.object_store import ObjectStore

ROOT = "extracts"


class PublishError(RuntimeError):
    """A package could not be written as it must be; nothing was published."""


@dataclass(frozen=True)
class Package:
    """A published revision. ``is_new``: this run wrote it."""

    path: str
    revision: int
    is_new: bool
    manifest: dict[str, Any]


def _folder(recipient_id: str, month: str) -> str:
    return f"{ROOT}/{recipient_id}/{month}"


def _read_manifest(path: str, store: ObjectStore) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.get(f"{path}/{MANIFEST}"))
    return found


def published(store: ObjectStore, folder: str = ROOT) -> list[Package]:
    """Every package below ``folder``, by recipient, month and revision."""
    pattern = re.compile(rf"({ROOT}/[^/]+/[^/]+)/r([1-9]\d*)/{re.escape(MANIFEST)}")
    matches = [match for path in store.paths(folder) if (match := pattern.fullmatch(path))]
    found = sorted((match.group(1), int(match.group(2))) for match in matches)
    return [
        Package(f"{parent}/r{revision}", revision, False, _read_manifest(f"{parent}/r{revision}", store))
        for parent, revision in found
    ]


def _already(existing: list[Package], candidate: Candidate, reason: str | None) -> Package | None:
    """The package that makes a new one needless.

    Without a reason the last one; with a reason the one written of these rows for this very reason.
    """
    if reason is None:
        return existing[-1] if existing else None
    for package in existing:
        told = package.manifest
        if (told["candidate_id"], told["reason"]) == (candidate.header.candidate_id, reason):
            return package
    return None


def _remove_leftovers(path: str, store: ObjectStore, lock: Lock) -> None:
    """Remove what a run that did not come to its end left of an unpublished revision."""
    for leftover in store.paths(path):
        lock.assert_held()
        if leftover == f"{path}/{MANIFEST}":
            raise PublishError(f"{path} was published meanwhile: run it again")
        store.delete(leftover)


def _write(path: str, files: dict[str, bytes], store: ObjectStore) -> None:
    for name, content in sorted(files.items()):
        if not store.create(f"{path}/{name}", content):
            raise PublishError(f"{path}/{name} is already there: another run writes this package; run it again")
    for name, content in sorted(files.items()):
        written = store.get(f"{path}/{name}")
        if hashlib.sha256(written).digest() != hashlib.sha256(content).digest():
            raise PublishError(f"{path}/{name} does not hold what was written to it")


def publish(
    candidate: Candidate,
    gate: GateRecord,
    gate_report: bytes,
    *,
    reason: str | None,
    store: ObjectStore,
    locks: Locks,
    created_at: datetime,
) -> Package:
    """Publish a candidate that passed the gate, or return the package that makes it needless.

    The first package of a month is r1. Later ones need a ``reason``; without one the last package is
    returned and nothing is written. The same candidate with the same reason is published once, so that a
    retry is safe.
    """
    header = candidate.header
    if not gate.passed or gate.candidate_digest != header.digest:
        raise PublishError(f"the gate did not pass {header.path}")
    if reason is not None and not (reason := reason.strip()):
        raise PublishError("the reason of a revision must not be empty")
    folder = _folder(header.recipient_id, header.month)
    with locks(f"publish {folder}") as lock:
        existing = published(store, folder)
        if needless := _already(existing, candidate, reason):
            return needless
        revision = existing[-1].revision + 1 if existing else 1
        path = f"{folder}/r{revision}"
        files = data_files(candidate, gate_report)
        content = manifest(candidate, gate, files, revision=revision, reason=reason, created_at=created_at)
        _remove_leftovers(path, store, lock)
        _write(path, files, store)
        lock.assert_held()
        if not store.create(f"{path}/{MANIFEST}", content):
            raise PublishError(f"{path} was published meanwhile: run it again")
        return Package(path, revision, True, json.loads(content))
