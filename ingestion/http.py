"""HTTP as every pulled feed needs it: bounded in time, in size and in tries.

Its errors hold no secret.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ingestion.model import FeedError

CONNECT_SECONDS = 3
READ_SECONDS = 15
BODY_SECONDS = 120
"""How long one body may take to arrive."""
MAX_BODY_BYTES = 64 * 1024 * 1024
"""How long one body may be, unpacked."""
MAX_RETRIES = 2
MAX_RETRY_AFTER_SECONDS = 10
"""What of a ``Retry-After`` is obeyed."""
USER_AGENT = "chargeatlarge"

_SHOWN_PARAMETERS = frozenset({"offset", "limit", "page"})
_PLAIN_HEADERS = frozenset({"accept", "accept-encoding", "connection", "user-agent"})
"""What may follow a redirect to another host."""
_CHUNK_BYTES = 64 * 1024

# These write whole URLs into their logs, with whatever secret stands in a query. What went wrong is said by the errors here.
for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.ERROR)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer read to its end. ``headers`` is case-insensitive."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class CappedRetry(urllib3.Retry):
    """Retries that obey ``Retry-After``, but never wait longer than ``MAX_RETRY_AFTER_SECONDS``."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Seconds to wait, capped; ``None`` when the server names none or one nobody can read."""
        try:
            seconds = super().get_retry_after(response)
        except urllib3.exceptions.InvalidHeader:
            return None
        return None if seconds is None else min(seconds, MAX_RETRY_AFTER_SECONDS)


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Leave every header that may hold a secret behind when a redirect leads to another host."""
        if self.should_strip_auth(response.request.url, prepared_request.url):  # type: ignore[no-untyped-call]
            for name in [name for name in prepared_request.headers if name.lower() not in _PLAIN_HEADERS]:
                del prepared_request.headers[name]


class HttpTransport:
    """One session for one feed.

    ``secrets`` are texts that no error message may hold (tokens in each of their spellings).
    ``backoff_seconds`` is the first pause between tries.
    """

    def __init__(
        self,
        secrets: Iterable[str] = (),
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        backoff_seconds: float = 0.5,
    ) -> None:
        self._secrets: list[str] = []
        self.add_secrets(secrets)
        self._max_body_bytes = max_body_bytes
        retry = CappedRetry(
            total=MAX_RETRIES,
            allowed_methods=frozenset({"GET"}),
            status_forcelist=(429, 500, 502, 503, 504),
            backoff_factor=backoff_seconds,
            raise_on_status=False,
        )
        self._session = _Session()
        self._session.max_redirects = 3
        self._session.headers["User-Agent"] = USER_AGENT
        self._session.headers["Accept-Encoding"] = "gzip"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=1))

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask once (with retries) and read the whole body. Any HTTP status is an answer.

        Raises ``FeedError`` when no complete answer came. It has no cause on purpose: the exceptions below
        quote URLs and headers.
        """
        return self._ask("GET", url, headers)

    def post_form(self, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Answer:
        """Send a form, once. Otherwise like `get`; a redirect is not followed."""
        return self._ask("POST", url, headers, form)

    def _ask(self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None) -> Answer:
        try:
            # Given as `auth`, the headers win over a .netrc file.
            with self._session.request(
                method,
                url,
                data=form,
                allow_redirects=form is None,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                stream=True,
                auth=lambda request: _with_headers(request, headers),
            ) as response:
                body, problem = self._read(response)
                if problem is None:
                    return Answer(response.url, response.status_code, response.headers, body)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            # ValueError: a URL or header that the libraries below refuse, quoted in their message.
            problem = _explain(error)
        raise FeedError(self.redact(f"{method} {shown_url(url)}: {problem}"))

    def _read(self, response: requests.Response) -> tuple[bytes, str | None]:
        """The body, or why it was given up."""
        deadline = time.monotonic() + BODY_SECONDS
        parts: list[bytes] = []
        size = 0
        for part in response.iter_content(_CHUNK_BYTES):
            size += len(part)
            if size > self._max_body_bytes:
                return b"", f"the body is longer than the limit of {self._max_body_bytes} bytes"
            if time.monotonic() > deadline:
                return b"", f"the body did not arrive within {BODY_SECONDS} s"
            parts.append(part)
        return b"".join(parts), None

    def add_secrets(self, secrets: Iterable[str]) -> None:
        """Name more texts that no error message may hold."""
        known = {*self._secrets, *secrets} - {""}
        # The longer first: one may hold another.
        self._secrets = sorted(known, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """The text with every secret blotted out."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def close(self) -> None:
        """Give back connections."""
        self._session.close()


def shown_url(url: str) -> str:
    """A URL fit for messages: no user, no password, no fragment, of the query only the place in the list."""
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return "(a URL that cannot be read)"
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if key in _SHOWN_PARAMETERS])
    return urlunsplit((parts.scheme, place, parts.path, query, ""))


def _with_headers(request: requests.PreparedRequest, headers: Mapping[str, str]) -> requests.PreparedRequest:
    request.headers.update(headers)
    return request


def _explain(error: Exception) -> str:
    """What went wrong, from the innermost reason that quotes no URL."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS} s"
    if isinstance(error, requests.ReadTimeout):
        return f"no answer within {READ_SECONDS} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return "the body broke off or could not be unpacked"
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, requests.ConnectionError):
        inner = error.args[0] if error.args else None
        reason = inner.reason if isinstance(inner, urllib3.exceptions.MaxRetryError) else inner
        return f"connection failed: {reason}" if reason else "connection failed"
    return type(error).__name__
