"""How a feed is asked with a secret: in a header, the query, as basic authentication, or by OAuth 2.0 client credentials."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ingestion.settings import SecretName, Strict


class NoAuth(Strict):
    """Nothing is asked for."""

    kind: Literal["none"] = "none"


class HeaderAuth(Strict):
    """A header ``name: <prefix><secret>``. The blank after a word like ``Bearer`` belongs to the prefix."""

    kind: Literal["header"]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$")] = "Authorization"
    prefix: str = ""
    secret: SecretName


class QueryAuth(Strict):
    """A parameter of the URL."""

    kind: Literal["query"]
    name: Annotated[str, Field(min_length=1)]
    secret: SecretName


class BasicAuth(Strict):
    """User and password."""

    kind: Literal["basic"]
    user: Annotated[str, StringConstraints(pattern=r"^[^:]+$")]
    secret: SecretName


class OAuth2ClientCredentials(Strict):
    """A token from ``token_url``, asked for with client id and secret, and again before it expires or when it is refused."""

    kind: Literal["oauth2_client_credentials"]
    token_url: str
    client_id: str
    secret: SecretName
    scope: str | None = None
    credentials_in: Literal["header", "form"] = "header"
    """Where client id and secret stand: as basic authentication, or as fields of the form."""
    form: dict[str, str] = Field(default_factory=dict)
    """More fields that the server asks for, such as ``audience``."""


Auth = Annotated[NoAuth | HeaderAuth | QueryAuth | BasicAuth | OAuth2ClientCredentials, Field(discriminator="kind")]
