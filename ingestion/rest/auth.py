"""How a feed is asked with a secret: in a header, the query, as basic authentication, or by OAuth 2.0 client credentials."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ingestion.settings import SecretName, Strict


class NoAuth(Strict):
    """Nothing is asked for."""

    kind: Literal["none"] = "none"


class HeaderAuth(Strict):
    """A header ``name: <prefix><secret>``."""

    kind: Literal["header"]
    name: str = "Authorization"
    prefix: str = ""
    secret: SecretName


class QueryAuth(Strict):
    """A parameter of the URL."""

    kind: Literal["query"]
    name: str
    secret: SecretName


class BasicAuth(Strict):
    """User and password."""

    kind: Literal["basic"]
    user: str
    secret: SecretName


class OAuth2ClientCredentials(Strict):
    """A token from ``token_url``, asked for with client id and secret, and again before it expires or when it is refused."""

    kind: Literal["oauth2_client_credentials"]
    token_url: str
    client_id: str
    secret: SecretName
    scope: str | None = None


Auth = Annotated[NoAuth | HeaderAuth | QueryAuth | BasicAuth | OAuth2ClientCredentials, Field(discriminator="kind")]
