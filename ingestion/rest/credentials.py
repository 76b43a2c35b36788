"""Secrets at work: what requests to a feed carry."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

from ingestion.http import HttpTransport, shown_url
from ingestion.model import FeedError
from ingestion.rest.auth import Auth, BasicAuth, HeaderAuth, NoAuth, OAuth2ClientCredentials, QueryAuth
from ingestion.values import parse_json, parse_number

EARLY_SECONDS = 30
"""A token is renewed so long before it expires."""


class Credentials:
    """What requests carry. Names every spelling of its secrets to the transport, so that no message holds one."""

    def __init__(
        self,
        auth: Auth,
        find_secret: Callable[[str], str],
        transport: HttpTransport,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``ConfigError`` when the secret is not there."""
        self._auth = auth
        self._transport = transport
        self._monotonic = monotonic
        self._secret = "" if isinstance(auth, NoAuth) else find_secret(auth.secret).strip()
        self._token: str | None = None
        self._token_until = float("inf")
        self._hide(self._secret)

    def apply(self, url: str) -> tuple[str, dict[str, str]]:
        """The URL to ask and the headers to send with it. Raises ``FeedError`` when no token is given."""
        auth = self._auth
        if isinstance(auth, HeaderAuth):
            return url, {auth.name: auth.prefix + self._secret}
        if isinstance(auth, QueryAuth):
            return with_query(url, {auth.name: self._secret}), {}
        if isinstance(auth, BasicAuth):
            return url, {"Authorization": self._basic(auth.user, self._secret)}
        if isinstance(auth, OAuth2ClientCredentials):
            if self._token is None or self._monotonic() >= self._token_until:
                self._token = self._new_token(auth)
            return url, {"Authorization": f"Bearer {self._token}"}
        return url, {}

    def renew(self) -> bool:
        """After a refusal (401): whether asking once more, with another token, may help."""
        had_token, self._token = self._token is not None, None
        return had_token

    def _new_token(self, auth: OAuth2ClientCredentials) -> str:
        form = {"grant_type": "client_credentials", **auth.form}
        headers = {"Accept": "application/json"}
        if auth.scope is not None:
            form["scope"] = auth.scope
        if auth.credentials_in == "form":
            form |= {"client_id": auth.client_id, "client_secret": self._secret}
        else:
            # RFC 6749, 2.3.1: both are form-encoded first.
            headers["Authorization"] = self._basic(quote_plus(auth.client_id), quote_plus(self._secret))
        where = f"POST {self._transport.redact(shown_url(auth.token_url))}"
        answer = self._transport.post_form(auth.token_url, headers, form)
        try:
            document = parse_json(answer.body)
        except ValueError:
            document = None
        document = document if isinstance(document, dict) else {}
        if answer.status != 200:
            said = document.get("error")
            reason = self._transport.redact(f": {said[:100]}") if isinstance(said, str) else ""
            raise FeedError(f"{where}: no token, HTTP {answer.status}{reason}")
        token = document.get("access_token")
        if not isinstance(token, str) or not token.strip():
            raise FeedError(f"{where}: HTTP 200, but no access_token")
        self._hide(token)
        kind = document.get("token_type", "Bearer")
        if not isinstance(kind, str) or kind.casefold() != "bearer":
            raise FeedError(f"{where}: token_type is not Bearer")
        lifetime = parse_number(document.get("expires_in"))
        # Without a lifetime (or with a nonsense one) it holds until it is refused.
        early = EARLY_SECONDS if lifetime and lifetime > 2 * EARLY_SECONDS else 0
        self._token_until = self._monotonic() + lifetime - early if lifetime and lifetime > 0 else float("inf")
        return token

    def _basic(self, user: str, password: str) -> str:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        self._hide(pair)
        return f"Basic {pair}"

    def _hide(self, secret: str) -> None:
        self._transport.add_secrets((secret, quote(secret), quote(secret, safe=""), quote_plus(secret)))


def with_query(url: str, parameters: dict[str, str]) -> str:
    """The URL with these parameters, in place of those of the same name."""
    parts = urlsplit(url)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in parameters]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode([*query, *parameters.items()]), ""))
