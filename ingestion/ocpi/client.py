"""The OCPI protocol: token, envelope, and where the Locations are."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit
from uuid import uuid4

from ingestion.http import Answer, HttpTransport, shown_url
from ingestion.model import FeedError
from ingestion.ocpi.versions import DIALECTS
from ingestion.values import TooDeepError, parse_json


class EndpointLostError(FeedError):
    """The other side does not know the URL (404) or the token (401): what was discovered may be out of
    date."""


def clean_token(token: str) -> str:
    """The token without the blanks and line ends around it."""
    return token.strip()


def token_spellings(token: str, version: str) -> tuple[str, ...]:
    """How a token may stand in the header: as the version has it, then as others do."""
    encoded = base64.b64encode(token.encode("utf-8")).decode("ascii")
    # A raw token of other characters cannot stand in a header.
    if not (token.isascii() and token.isprintable()):
        return (encoded,)
    return (token, encoded) if DIALECTS[version].is_token_raw else (encoded, token)


class OcpiClient:
    """Asks one OCPI party with one token."""

    def __init__(self, transport: HttpTransport, versions_url: str, version: str, token: str) -> None:
        self._transport = transport
        self._versions_url = versions_url
        self._version = version
        self._spellings = list(token_spellings(token, version))
        transport.add_secrets((token, *self._spellings))

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for one URL; the answer's status is 200 or 304.

        The spelling of the token that worked last is tried first. Raises ``EndpointLostError`` for 401 and
        404, ``FeedError`` for anything else.
        """
        answers = []
        for spelling in tuple(self._spellings):
            answers.append(
                self._transport.get(
                    url,
                    {
                        "Accept": "application/json",
                        **(headers or {}),
                        "Authorization": f"Token {spelling}",
                        "X-Request-ID": str(uuid4()),
                        "X-Correlation-ID": str(uuid4()),
                    },
                )
            )
            if not _may_be_refusal(answers[-1]):
                self._spellings.remove(spelling)
                self._spellings.insert(0, spelling)
                answers = answers[-1:]
                break
        answer = answers[0]
        if answer.status in (200, 304):
            return answer
        if answer.status == 401:
            raise EndpointLostError(f"GET {self.shown(url)}: HTTP 401, the token is refused in every spelling")
        if answer.status == 404:
            raise EndpointLostError(f"GET {self.shown(url)}: HTTP 404")
        raise FeedError(f"GET {self.shown(url)}: HTTP {answer.status}")

    def data(self, url: str, body: bytes) -> Any:
        """The ``data`` of the envelope that ``url`` answered with HTTP 200.

        Raises ``FeedError`` when the body is not JSON or tells of a failure.
        """
        where = f"GET {self.shown(url)}"
        try:
            envelope = parse_json(body)
        except ValueError as error:
            problem = str(error) if isinstance(error, TooDeepError) else _what_it_is(body)
            raise FeedError(f"{where}: the body {problem} ({len(body)} bytes)") from None
        if not isinstance(envelope, dict) or "status_code" not in envelope:
            if isinstance(envelope, list) or (isinstance(envelope, dict) and "items" in envelope):
                raise FeedError(
                    f"{where}: Locations without the envelope of OCPI: a feed of kind rest_pull reads such a list"
                )
            raise FeedError(f"{where}: no OCPI answer (status_code is missing)")
        code = envelope["status_code"]
        if not re.fullmatch(r"1\d{3}", str(code), re.ASCII):
            said = self._transport.redact(f"{code} {envelope.get('status_message') or ''}".strip()[:200])
            raise FeedError(f"{where}: HTTP 200, but OCPI status_code {said}")
        return envelope.get("data")

    def locations_url(self) -> str:
        """Ask versions, then the version's details, for the sender's Locations. Raises ``FeedError``."""
        versions = self._list(self._versions_url, None)
        offered = {str(entry.get("version")): entry.get("url") for entry in versions}
        if self._version not in offered:
            names = self._transport.redact(", ".join(sorted(offered))[:200]) or "nothing"
            raise FeedError(f"GET {self.shown(self._versions_url)}: offers {names}; not version {self._version}")
        details_url = self._follow(self._versions_url, offered[self._version])
        for endpoint in self._list(details_url, "endpoints"):
            is_sender = not DIALECTS[self._version].has_roles or (
                str(endpoint.get("role") or "SENDER").strip().upper() == "SENDER"
            )
            if endpoint.get("identifier") == "locations" and is_sender:
                return self._follow(details_url, endpoint.get("url"))
        role = " with role SENDER" if DIALECTS[self._version].has_roles else ""
        raise FeedError(f"GET {self.shown(details_url)}: no locations endpoint{role}")

    def shown(self, url: str) -> str:
        """A URL fit for messages."""
        return self._transport.redact(shown_url(url))

    def _list(self, url: str, key: str | None) -> list[dict[str, Any]]:
        """The list of objects that a discovery answer holds, in its data or under ``key`` of it."""
        data = self.data(url, self.get(url).body)
        entries = data.get(key) if key and isinstance(data, dict) else data
        if not isinstance(entries, list):
            raise FeedError(f"GET {self.shown(url)}: no list of {key or 'versions'}")
        return [entry for entry in entries if isinstance(entry, dict)]

    def _follow(self, base: str, url: object) -> str:
        """An address that an answer named. Where the CPO's own is https, the token never leaves it for
        http."""
        if not isinstance(url, str) or not url.strip():
            raise FeedError(f"GET {self.shown(base)}: an address is missing in the answer")
        try:
            followed = urljoin(base, url.strip())
            parts = urlsplit(followed)
            ours = urlsplit(base)
            port = parts.port
        except ValueError:
            raise FeedError(f"GET {self.shown(base)}: an address in the answer cannot be read") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FeedError(f"GET {self.shown(base)}: {self.shown(followed)} is no HTTP address")
        if ours.scheme == "https" and parts.scheme == "http":
            # Servers behind a TLS proxy often name themselves so.
            if parts.hostname != ours.hostname or port not in (None, 80, ours.port):
                raise FeedError(f"GET {self.shown(base)}: {self.shown(followed)} would send the token in clear")
            return urlunsplit(("https", ours.netloc, parts.path, parts.query, ""))
        return followed


_FAILURE = re.compile(rb'"status_code"\s*:\s*"?[23]\d{3}\b')
_MAX_FAILURE_BYTES = 4096


def _may_be_refusal(answer: Answer) -> bool:
    """Whether another spelling of the token may help. Some refuse one with HTTP 200 and a failure in the envelope."""
    if answer.status == 200:
        return len(answer.body) <= _MAX_FAILURE_BYTES and _FAILURE.search(answer.body) is not None
    return answer.status in (401, 403)


def _what_it_is(body: bytes) -> str:
    """What a body that cannot be read as JSON looks like."""
    if not body.strip():
        return "is empty"
    if body.lstrip().startswith(b"<"):
        return "is HTML or XML, not JSON"
    return "is not JSON, or cut short"
