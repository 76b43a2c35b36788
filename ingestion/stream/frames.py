"""What the documents of a message say. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from ingestion.config import StreamSettings
from ingestion.mapping import Statuses, search, translate_records, translate_status_records
from ingestion.mapping_settings import Expression, Mapping, StatusMapping
from ingestion.model import Rejected, Told, Translated, reference
from ingestion.stream.mark import fingerprint
from ingestion.values import parse_json

MOST_DOCUMENTS = 100_000
"""Lines of one message that are read as documents of their own."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one document said: ``described`` by the feed's mapping, ``statuses`` of EVSEs described elsewhere.

    ``list_sha256``: of the document, when it lists every EVSE. Without anything in it the message was a sign of life.
    """

    described: Translated
    statuses: Statuses
    list_sha256: bytes | None = None

    def fingerprints(self, event_id: str) -> list[bytes]:
        """Of each thing told, in order; none of a list, which each connection is told for itself."""
        if self.list_sha256 is not None:
            return []
        told = [Told(ref, word, updated_at) for ref, (word, updated_at) in self.described.statuses.items()]
        told += [Told(reference(status.evse_id), status.word, status.updated_at) for status in self.statuses.told]
        return [fingerprint(one, event_id) for one in told]

    def without_first(self, count: int) -> Said:
        """The rest when the first ``count`` things told (and what was described) are known already."""
        here = min(count, len(self.described.statuses))
        described = replace(
            self.described,
            assets=(),
            rejected=(),
            statuses=dict(islice(self.described.statuses.items(), here, None)),
        )
        statuses = replace(self.statuses, told=self.statuses.told[count - here :], rejected=())
        return Said(described, statuses, self.list_sha256)


class FrameReader:
    """Reads messages by the feed's own expressions."""

    def __init__(self, feed: StreamSettings) -> None:
        self._feed = feed
        self.source = f"{feed.kind} message"

    def read(self, data: bytes) -> list[Said]:
        """What a message says: one JSON document, or one a line. No input raises: what is no JSON is rejected whole, else record by record."""
        try:
            documents = list(islice(_documents(data), MOST_DOCUMENTS))
        except ValueError as error:
            payload = data.decode("utf-8", "replace")
            rejected = Rejected(self.source, "message", None, f"is not JSON: {error}", payload)
            return [Said(Translated(rejected=(rejected,)), Statuses(self.source))]
        return [self._read_document(document, data) for document in documents]

    def _read_document(self, document: object, data: bytes) -> Said:
        described, statuses = Translated(), Statuses(self.source)
        try:
            is_list = self._feed.snapshot_when is not None and bool(search(self._feed.snapshot_when, document))
            messages = self._feed.messages
            # Where a list describes the EVSEs, the mapping is of that list.
            mapping = self._feed.mapping if self._feed.descriptions is None else None
            if mapping is not None and (sites := _sites(document, mapping)):
                described = translate_records(sites, mapping, self._feed, self.source)
            if messages is not None and not (described.evse_count and mapping and mapping.evse.status):
                statuses = translate_status_records(_statuses(document, messages), messages, self._feed, self.source)
        except ValueError as error:
            rejected = Rejected(self.source, "message", None, str(error), data.decode("utf-8", "replace"))
            return Said(Translated(rejected=(rejected,)), Statuses(self.source))
        return Said(described, statuses, hashlib.sha256(data).digest() if is_list else None)


def _documents(data: bytes) -> Iterator[object]:
    """The document, or one a line. Raises ``ValueError`` when neither the whole nor every line is JSON."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    if len(lines) < 2:
        yield parse_json(data)
        return
    try:
        yield parse_json(data)
    except ValueError as error:
        whole = error
    else:
        return
    try:
        documents = [parse_json(line) for line in lines]
    except ValueError:
        raise whole from None
    yield from documents


def _sites(document: object, mapping: Mapping) -> list[object]:
    """The sites that a message describes: none, where it holds no list of them and names no site."""
    found = search(mapping.sites, document)
    items = found if isinstance(found, list) else [found]
    return [item for item in items if isinstance(item, dict) and _says(item, mapping.site.site_id)]


def _statuses(document: object, mapping: StatusMapping) -> list[object]:
    """The records of statuses of a message: what names neither an EVSE nor a status is none."""
    found = search(mapping.items, document)
    items = found if isinstance(found, list) else [found]
    return [
        item
        for item in items
        if isinstance(item, dict) and (_says(item, mapping.evse_id) or _says(item, mapping.status))
    ]


def _says(item: object, expression: Expression) -> bool:
    try:
        return search(expression, item) not in (None, "", [], {})
    except ValueError:
        # Something that cannot be read: for the translation to say so.
        return True
