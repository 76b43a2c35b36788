"""The three steps of an extract, each safe to repeat; only short strings pass between them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from expectations.candidate import CandidateError, load_candidate
from expectations.gate import check, require, store_result, stored_pass
from expectations.months import first_day
from extracts.locks import warehouse_lock
from extracts.publish import Package, publish
from extracts.recipients import recipient
from extracts.select import select_candidate
from warehouse.object_store import open_store

log = logging.getLogger(__name__)


def select_rows(recipient_id: str, month: str) -> str:
    """Set the rows of a recipient and month (``YYYY-MM``) aside; return the candidate's path."""
    first_day(month)
    path = select_candidate(recipient(recipient_id), month, open_store())
    log.info("selected %s", path)
    return path


def check_rows(candidate_path: str) -> None:
    """Have the gate judge a candidate and keep its report. Raises ``GateBlocked``."""
    store = open_store()
    result = check(load_candidate(candidate_path, store))
    report = store.locate(store_result(result, store))
    for finding in result.warnings:
        log.warning("%s", finding.sentence())
    log.info("%d expectations, %d warnings, report %s", len(result.findings), len(result.warnings), report)
    require(result, report)


def publish_rows(candidate_path: str, reason: str | None = None) -> tuple[Package, str]:
    """Publish a candidate that passed; return the package and where a person finds it.

    Raises ``GateError`` when the gate was not asked about exactly these bytes, ``GateBlocked`` when it
    refused them, and ``CandidateError`` when the recipient's block asks for other rows by now.
    """
    store = open_store()
    candidate = load_candidate(candidate_path, store)
    header = candidate.header
    gate, report = stored_pass(header, store)
    wanted = recipient(header.recipient_id)
    now_and_then = [(each.states, each.rule_set, each.rule_set_version) for each in (wanted, header)]
    if now_and_then[0] != now_and_then[1]:
        raise CandidateError(f"{candidate_path}: the recipient's block was changed since: select again")
    destination = open_store(wanted.destination_url) if wanted.destination_url else store
    package = publish(
        candidate,
        gate,
        report,
        reason=reason,
        store=destination,
        locks=warehouse_lock,
        created_at=datetime.now(UTC),
    )
    place = destination.locate(package.path)
    log.info("%s %s", "published" if package.is_new else "already published", place)
    return package, place


def publish_package(candidate_path: str, reason: str | None = None) -> str:
    """Publish a candidate that passed the gate; return the package's path in its store."""
    package, _ = publish_rows(candidate_path, reason)
    return package.path
