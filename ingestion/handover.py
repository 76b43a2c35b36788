"""Hand-over folders: files that a CPO has put below ``inbox/<cpo_id>/``, imported once."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path

import psycopg

from ingestion.config import CpoConfig
from ingestion.history import Imported, Report, import_history
from ingestion.tables import HistoryFileError

RECEIPT = "imported.json"


def import_waiting(
    connection: psycopg.Connection, config: CpoConfig, inbox: Path, now: datetime, report: Report
) -> list[Imported]:
    """Import every hand-over below ``inbox/<cpo_id>/`` that has not been imported: a folder with assets, changes and contact files.

    A folder is done when its ``imported.json`` holds the hashes of the very files that are there; changing a file makes it waiting again.
    A folder that cannot be imported does not keep the others waiting: raises ``HistoryFileError`` that names every such folder, at the end.
    """
    done = []
    refused = []
    for folder in sorted(path for path in (inbox / config.cpo_id).glob("*") if path.is_dir()):
        try:
            imported = _import_folder(connection, config, folder, now, report)
        except HistoryFileError as error:
            report(f"{folder.name}: refused: {error}")
            refused.append(f"{folder.name}: {error}")
            continue
        if imported is not None:
            done.append(imported)
    if refused:
        raise HistoryFileError("\n".join(refused))
    return done


def _import_folder(
    connection: psycopg.Connection, config: CpoConfig, folder: Path, now: datetime, report: Report
) -> Imported | None:
    """Import one hand-over and leave a receipt; ``None`` when there is nothing new in it."""
    assets, changes, contact = (_one_file(folder, kind) for kind in ("assets", "changes", "contact"))
    hashes = {file.name: _sha256(file) for file in (assets, changes, contact) if file is not None}
    others = sorted(
        path.name for path in folder.iterdir() if path.name not in {*hashes, RECEIPT} and not path.name.startswith(".")
    )
    if others:
        raise HistoryFileError(f"{folder}: {', '.join(others)}: only assets.*, changes.* and contact.* are imported")
    if not hashes:
        return None
    receipt = folder / RECEIPT
    if receipt.exists() and json.loads(receipt.read_text(encoding="utf-8"))["sha256"] == hashes:
        report(f"{folder.name}: imported before")
        return None
    imported = import_history(
        connection, config, assets=assets, changes=changes, contact=contact, now=now, report=report
    )
    connection.commit()
    report(f"{folder.name}: {imported.written}")
    # Whole or not at all: a receipt cut short could not be read by the next run.
    unfinished = folder / f".{RECEIPT}.part"
    unfinished.write_text(
        json.dumps({"sha256": hashes, "imported_at": now.isoformat(), "written": str(imported.written)}, indent=2),
        encoding="utf-8",
    )
    unfinished.replace(receipt)
    return imported


def _one_file(folder: Path, kind: str) -> Path | None:
    found = sorted(folder.glob(f"{kind}.*"))
    if len(found) > 1:
        raise HistoryFileError(f"{folder}: several files named {kind}: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
