"""Each way in which a feed is asked with a secret; and no message, log line or record ever holds one."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from rest_script import ASSETS, SECRETS, Pages, find_secret, ports, pull, reply, rest_config, serve

from ingestion.config import CpoConfig
from ingestion.feeds import open_polled
from ingestion.http import HttpTransport
from ingestion.model import FeedError
from ingestion.rest.pull import RestPull
from tests.ingestion.ocpi.scripted_server import Reply, Request, ScriptedServer
from warehouse.strict_yaml import ConfigError

SECRET = SECRETS["ABC_KEY"]
BASIC = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()
SPELLINGS = (
    SECRET,
    quote(SECRET),
    quote(SECRET, safe=""),
    quote_plus(SECRET),
    BASIC.removeprefix("Basic "),
    base64.b64encode(f"client:{quote_plus(SECRET)}".encode()).decode(),
    "tok-",
)

AUTHS: dict[str, dict[str, Any]] = {
    "header": {"kind": "header", "name": "X-Api-Key", "secret": "ABC_KEY"},
    "bearer": {"kind": "header", "prefix": "Bearer ", "secret": "ABC_KEY"},
    "query": {"kind": "query", "name": "apikey", "secret": "ABC_KEY"},
    "basic": {"kind": "basic", "user": "user", "secret": "ABC_KEY"},
}
OAUTH: dict[str, Any] = {"kind": "oauth2_client_credentials", "client_id": "client", "secret": "ABC_KEY"}


def is_allowed(name: str, request: Request) -> bool:
    return {
        "header": request.headers.get("X-Api-Key") == SECRET,
        "bearer": request.headers.get("Authorization") == f"Bearer {SECRET}",
        "query": request.query.get("apikey") == SECRET,
        "basic": request.headers.get("Authorization") == BASIC,
    }[name]


def oauth_config(server: ScriptedServer, **more: Any) -> CpoConfig:
    return rest_config(server.url, auth={**OAUTH, "token_url": f"{server.url}/token", **more})


class TokenServer:
    """Gives tokens ``tok-1``, ``tok-2``, ..., of which only the latest is accepted."""

    def __init__(self, server: ScriptedServer, **answer: Any) -> None:
        self.given = 0
        self.answer = {"token_type": "bearer", "expires_in": 3600, **answer}
        self.accepts_any = False
        server.routes["/token"] = self.token
        server.routes[ASSETS] = self.list

    def token(self, request: Request) -> Reply:
        self.given += 1
        return reply({"access_token": f"tok-{self.given}", **self.answer})

    def list(self, request: Request) -> Reply:
        is_good = request.headers.get("Authorization") == f"Bearer tok-{self.given}"
        return reply({"items": ports(2)}) if is_good or self.accepts_any else Reply(b"expired", 401)


@pytest.mark.parametrize("name", AUTHS)
def test_the_secret_stands_where_the_file_says(server: ScriptedServer, name: str) -> None:
    server.routes[ASSETS] = lambda request: reply({"items": ports(2)}) if is_allowed(name, request) else Reply(b"", 401)
    assert len(pull(rest_config(server.url, auth=AUTHS[name])).poll().statuses) == 2


def test_a_query_secret_stands_on_every_page_and_beside_other_parameters(server: ScriptedServer) -> None:
    Pages(ports(25), 10, "link").mount(server)
    config = rest_config(
        server.url, auth=AUTHS["query"], assets={"url": f"{server.url}{ASSETS}?lang=de", "paging": {"kind": "link"}}
    )
    assert len(pull(config).poll().statuses) == 25
    assert [request.query.get("apikey") for request in server.requests] == [SECRET] * 3
    assert server.requests[0].query["lang"] == "de"


@pytest.mark.parametrize("name", AUTHS)
def test_a_refusal_is_an_error_and_a_fixed_secret_is_not_tried_twice(server: ScriptedServer, name: str) -> None:
    server.routes[ASSETS] = lambda _: Reply(b"", 401)
    with pytest.raises(FeedError, match=r"HTTP 401, the credentials are refused$"):
        pull(rest_config(server.url, auth=AUTHS[name])).poll()
    assert len(server.requests) == 1


def test_a_secret_that_is_not_there_is_a_config_error_before_anything_is_asked(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ABC_KEY", raising=False)
    with pytest.raises(ConfigError, match="secret ABC_KEY is not set"):
        open_polled(rest_config(server.url, auth=AUTHS["header"]))
    assert server.requests == []


# --- OAuth 2.0


def test_a_token_is_asked_for_once_and_used_until_shortly_before_it_expires(server: ScriptedServer) -> None:
    tokens = TokenServer(server, expires_in=3600)
    clock = [0.0]
    feed = pull(oauth_config(server), lambda: clock[0])
    given = []
    for clock[0] in (0.0, 60.0, 3569.0, 3570.0, 7139.0, 7140.0):
        feed.poll()
        given.append(tokens.given)
    assert given == [1, 1, 1, 2, 2, 3]
    asked = server.asked("/token")[0]
    assert asked.form == {"grant_type": "client_credentials"}
    assert (
        asked.headers["Authorization"] == "Basic " + base64.b64encode(f"client:{quote_plus(SECRET)}".encode()).decode()
    )


def test_client_id_secret_scope_and_more_may_stand_in_the_form(server: ScriptedServer) -> None:
    TokenServer(server)
    pull(oauth_config(server, credentials_in="form", scope="read", form={"audience": "ports"})).poll()
    asked = server.asked("/token")[0]
    assert asked.form == {
        "grant_type": "client_credentials",
        "client_id": "client",
        "client_secret": SECRET,
        "scope": "read",
        "audience": "ports",
    }
    assert "Authorization" not in asked.headers


@pytest.mark.parametrize("lifetime", [None, "soon", 0, -5, "3600", 10])
def test_a_token_lives_as_long_as_it_says_or_until_it_is_refused(server: ScriptedServer, lifetime: object) -> None:
    tokens = TokenServer(server, expires_in=lifetime)
    clock = [0.0]
    feed = pull(oauth_config(server), lambda: clock[0])
    for clock[0] in (0.0, 9.0, 5000.0):
        feed.poll()
    assert tokens.given == (2 if lifetime in ("3600", 10) else 1)


def test_a_refused_token_is_asked_for_again_once(server: ScriptedServer) -> None:
    tokens = TokenServer(server)
    feed = pull(oauth_config(server))
    feed.poll()
    tokens.given += 1
    assert feed.poll().is_unchanged
    assert (tokens.given, len(server.asked("/token"))) == (3, 2)
    server.routes[ASSETS] = lambda _: Reply(b"", 401)
    with pytest.raises(FeedError, match=r"HTTP 401, the credentials are refused$"):
        feed.poll()
    assert len(server.asked("/token")) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply({"error": "invalid_client"}, 401), r"no token, HTTP 401: invalid_client"),
        (reply({"error": f"bad {SECRET}"}, 400), r"no token, HTTP 400: bad \*\*\*"),
        (reply({"error": ["x"]}, 400), r"no token, HTTP 400$"),
        (Reply(b"<html>", 200), r"HTTP 200, but no access_token"),
        (reply({}), r"HTTP 200, but no access_token"),
        (reply([1]), r"HTTP 200, but no access_token"),
        (reply({"access_token": ""}), r"HTTP 200, but no access_token"),
        (reply({"access_token": 7}), r"HTTP 200, but no access_token"),
        (reply({"access_token": "t", "token_type": "mac"}), r"token_type is not Bearer"),
        (Reply(b"", 302, {"Location": "/elsewhere"}), r"no token, HTTP 302"),
        (Reply(b"", 503), r"no token, HTTP 503"),
        (Reply(hang_up=True), r"connection failed"),
    ],
)
def test_a_bad_answer_to_the_question_for_a_token_is_a_clear_error(
    server: ScriptedServer, answer: Reply, said: str
) -> None:
    server.routes["/token"] = lambda _: answer
    serve(server, ports(2))
    with pytest.raises(FeedError, match=rf"^POST {server.url}/token: .*{said}"):
        pull(oauth_config(server)).poll()
    assert server.asked(ASSETS) == []


# --- nothing tells


@pytest.mark.parametrize("name", [*AUTHS, "oauth header", "oauth form"])
@pytest.mark.parametrize(
    "bad",
    [
        Reply(b"", 401),
        Reply(b"<html>"),
        Reply(hang_up=True),
        Reply(b"", 302, {"Location": "http://127.0.0.1:9/{spelling}?apikey={spelling}"}),
        Reply(b"", 302, {"Location": "/login?return={spelling}"}),
        reply({"items": None}),
    ],
)
def test_no_message_and_no_log_line_holds_a_secret(
    server: ScriptedServer, name: str, bad: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    TokenServer(server)
    location = bad.headers.get("Location", "").replace("{spelling}", quote(SECRET, safe=""))
    server.routes[ASSETS] = lambda _: Reply(
        bad.body, bad.status, {**bad.headers, **({"Location": location} if location else {})}, bad.cut_to, bad.hang_up
    )
    config = (
        oauth_config(server, credentials_in=name.split()[1])
        if name.startswith("oauth")
        else rest_config(server.url, auth=AUTHS[name])
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(FeedError) as caught:
        pull(config).poll()
    shown: BaseException | None = caught.value
    texts = [caplog.text]
    while shown is not None:
        texts += [str(shown), repr(shown)]
        shown = shown.__cause__
    told = "\n".join(texts)
    assert [spelling for spelling in SPELLINGS if spelling in told] == []


def test_no_record_holds_a_secret_of_the_query(server: ScriptedServer) -> None:
    serve(server, [*ports(1), {"id": None, "site": "S1", "lat": -33.87, "lon": 151.21}])
    poll = pull(rest_config(server.url, auth=AUTHS["query"])).poll()
    assert [rejected.source for rejected in poll.rejected] == [ASSETS]
    assert SECRET not in repr(poll)


def test_a_redirect_to_another_host_carries_no_header_with_a_secret(server: ScriptedServer) -> None:
    with ScriptedServer() as other:
        serve(other, ports(1))
        # By another name, so that it is another host.
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        server.routes[ASSETS] = lambda _: Reply(b"", 302, {"Location": f"{elsewhere}{ASSETS}"})
        for name in ("header", "bearer", "basic"):
            pull(rest_config(server.url, auth=AUTHS[name])).poll()
        assert [dict(request.headers).get("Accept") for request in other.requests] == ["application/json"] * 3
        assert "s3cret" not in json.dumps([dict(request.headers) for request in other.requests])
        assert not any("Authorization" in request.headers for request in other.requests)


def test_a_secret_loses_the_line_end_of_its_file(server: ScriptedServer) -> None:
    server.routes[ASSETS] = lambda request: (
        reply({"items": ports(2)}) if is_allowed("header", request) else Reply(b"", 401)
    )
    config = rest_config(server.url, auth=AUTHS["header"])
    assert RestPull(config, lambda name: find_secret(name) + "\n", HttpTransport()).poll().evse_count == 2
