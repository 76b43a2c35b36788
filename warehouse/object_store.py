"""The object store: a folder by default, Azure Blob or S3 by URL.

``OBJECT_STORE_URL`` names it (``file:///srv/packages``, ``az://container/prefix``, ``s3://bucket/prefix``;
credentials come from the provider's own environment variables); without it the store is ``object_store/`` in
the folder of everything this project writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from warehouse.connection import var_dir


class ObjectStoreError(RuntimeError):
    """The object store could not be reached or refused; the message names the object."""


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        # Only the first line: the rest may repeat the request with its credentials.
        first_line = (str(error).splitlines() or [""])[0]
        raise ObjectStoreError(f"object store: cannot {what}: {type(error).__name__}: {first_line}") from None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing says of an object."""

    path: str
    byte_count: int
    modified_at: datetime


class ObjectStore:
    """A few verbs over one store; paths are relative, with ``/``."""

    def __init__(self, store: Any, place: str) -> None:
        self._store = store
        self._place = place.rstrip("/")

    def locate(self, path: str) -> str:
        """Where a person finds ``path``: a file path for a folder, else a URL without its query."""
        return f"{self._place}/{path}"

    def get(self, path: str) -> bytes:
        """Content of an object.

        Raises ``FileNotFoundError`` when there is none, else ``ObjectStoreError``.
        """
        with _explained(f"read {path}"):
            return bytes(obstore.get(self._store, path).bytes())

    def create(self, path: str, content: bytes) -> bool:
        """Write a new object whole; ``False`` and untouched when one is already there."""
        with _explained(f"create {path}"):
            try:
                obstore.put(self._store, path, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def overwrite(self, path: str, content: bytes) -> None:
        """Write an object whole, in place of what is there."""
        with _explained(f"write {path}"):
            obstore.put(self._store, path, content)

    def paths(self, folder: str) -> list[str]:
        """Paths of all objects below ``folder``, sorted."""
        with _explained(f"list {folder}"):
            return sorted(item["path"] for page in obstore.list(self._store, folder) for item in page)

    def objects(self, folder: str = "") -> list[StoredObject]:
        """All objects below ``folder``, by path."""
        with _explained(f"list {folder or self._place}"):
            items = [item for page in obstore.list(self._store, folder or None) for item in page]
        found = [StoredObject(item["path"], item["size"], item["last_modified"]) for item in items]
        return sorted(found, key=lambda item: item.path)

    def download(self, path: str, to: Path) -> StoredObject:
        """Copy an object into a file, piece by piece. Raises like `get`."""
        with _explained(f"read {path}"):
            result = obstore.get(self._store, path)
            with to.open("wb") as file:
                for piece in result.stream():
                    file.write(bytes(piece))
            return StoredObject(path, result.meta["size"], result.meta["last_modified"])

    def move(self, path: str, to: str) -> None:
        """Give an object another path."""
        with _explained(f"move {path}"):
            obstore.rename(self._store, path, to)

    def newest_first(self, folder: str) -> list[str]:
        """Paths of all objects below ``folder``, the last written first."""
        with _explained(f"list {folder}"):
            items = [item for page in obstore.list(self._store, folder) for item in page]
        return [item["path"] for item in sorted(items, key=lambda item: item["last_modified"], reverse=True)]

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        with _explained(f"delete {path}"):
            try:
                obstore.delete(self._store, path)
            except FileNotFoundError:
                return


def open_store(url: str | None = None) -> ObjectStore:
    """Open the store at ``url``, by default the one of the environment. Raises ``ObjectStoreError``."""
    url = url or os.environ.get("OBJECT_STORE_URL")
    if not url:
        folder = str(var_dir() / "object_store")
        with _explained(f"open {folder}"):
            return ObjectStore(LocalStore(folder, mkdir=True), folder)
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = unquote(parts.path)
        with _explained(f"open {folder}"):
            return ObjectStore(LocalStore(folder, mkdir=True), folder)
    place = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    if not parts.scheme:
        raise ObjectStoreError("object store: the URL has no scheme: write file:///folder, az://... or s3://...")
    with _explained(f"open {place}"):
        try:
            return ObjectStore(from_url(url), place)
        except ValueError as error:
            raise ObjectStoreError(f"object store: {place} is not a kind of store that is known") from error
