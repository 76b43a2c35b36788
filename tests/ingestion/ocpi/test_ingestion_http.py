from __future__ import annotations

import gzip
import logging
import socket
import time
from collections.abc import Iterator

import pytest
from scripted_server import Reply, Request, ScriptedServer

from ingestion import http
from ingestion.http import HttpTransport, shown_url
from ingestion.model import FeedError

TOKEN = "s3cret-t0ken"  # noqa: S105


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    made = HttpTransport([TOKEN], backoff_seconds=0)
    yield made
    made.close()


def replies(server: ScriptedServer, *script: Reply) -> list[float]:
    """Play the script on /x, the last reply for ever; returns when each request came."""
    times: list[float] = []

    def route(_: Request) -> Reply:
        times.append(time.monotonic())
        return script[min(len(times), len(script)) - 1]

    server.routes["/x"] = route
    return times


def chain_text(error: BaseException) -> str:
    """All that an exception and those behind it would show to anybody."""
    texts = []
    link: BaseException | None = error
    while link is not None:
        texts += [str(link), repr(link), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


def test_an_answer_has_status_headers_and_the_unpacked_body(server: ScriptedServer, transport: HttpTransport) -> None:
    replies(server, Reply(gzip.compress(b"hello"), 200, {"Content-Encoding": "gzip", "X-Total-Count": "7"}))
    answer = transport.get(f"{server.url}/x", {"Authorization": f"Token {TOKEN}"})
    assert (answer.status, answer.body, answer.headers["x-total-count"]) == (200, b"hello", "7")
    asked = server.requests[0].headers
    assert asked["Authorization"] == f"Token {TOKEN}"
    assert asked["User-Agent"] == "chargeatlarge"
    assert asked["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_failure_is_asked_again(server: ScriptedServer, transport: HttpTransport, status: int) -> None:
    times = replies(server, Reply(b"", status), Reply(b"", status), Reply(b"good"))
    assert transport.get(f"{server.url}/x", {}).body == b"good"
    assert len(times) == 3


def test_tries_are_few_and_the_last_answer_is_given(server: ScriptedServer, transport: HttpTransport) -> None:
    times = replies(server, Reply(b"", 503))
    assert transport.get(f"{server.url}/x", {}).status == 503
    assert len(times) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_a_lasting_failure_is_not_asked_again(server: ScriptedServer, transport: HttpTransport, status: int) -> None:
    times = replies(server, Reply(b"", status), Reply(b"good"))
    assert transport.get(f"{server.url}/x", {}).status == status
    assert len(times) == 1


def test_a_connection_that_is_dropped_is_tried_again(server: ScriptedServer, transport: HttpTransport) -> None:
    times = replies(server, Reply(hang_up=True), Reply(b"good"))
    assert transport.get(f"{server.url}/x", {}).body == b"good"
    assert len(times) == 2


def test_retry_after_is_obeyed(server: ScriptedServer, transport: HttpTransport) -> None:
    times = replies(server, Reply(b"", 429, {"Retry-After": "1"}), Reply(b"good"))
    assert transport.get(f"{server.url}/x", {}).body == b"good"
    assert times[1] - times[0] >= 0.95


@pytest.mark.parametrize("wish", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_retry_after_is_obeyed_only_up_to_a_cap(
    server: ScriptedServer, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    monkeypatch.setattr(http, "MAX_RETRY_AFTER_SECONDS", 0.2)
    times = replies(server, Reply(b"", 429, {"Retry-After": wish}), Reply(b"good"))
    assert transport.get(f"{server.url}/x", {}).body == b"good"
    assert 0.15 <= times[1] - times[0] < 5


def test_a_retry_after_nobody_can_read_is_passed_over(server: ScriptedServer, transport: HttpTransport) -> None:
    replies(server, Reply(b"", 429, {"Retry-After": "soon"}), Reply(b"good"))
    assert transport.get(f"{server.url}/x", {}).body == b"good"


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_body_beyond_the_limit_is_an_error_that_names_the_limit(server: ScriptedServer, encoding: str) -> None:
    body = b"x" * 200_001
    headers = {"Content-Encoding": encoding} if encoding else {}
    replies(server, Reply(gzip.compress(body) if encoding else body, 200, headers))
    with pytest.raises(FeedError, match="longer than the limit of 200000 bytes"):
        HttpTransport(max_body_bytes=200_000).get(f"{server.url}/x", {})
    assert len(HttpTransport(max_body_bytes=200_001).get(f"{server.url}/x", {}).body) == 200_001


def test_the_limit_is_64_mib() -> None:
    assert http.MAX_BODY_BYTES == 64 * 1024 * 1024


def test_a_body_that_breaks_off_is_an_error(server: ScriptedServer, transport: HttpTransport) -> None:
    replies(server, Reply(b"x" * 1000, cut_to=500))
    with pytest.raises(FeedError, match="broke off"):
        transport.get(f"{server.url}/x", {})


def test_a_body_that_does_not_unpack_is_an_error(server: ScriptedServer, transport: HttpTransport) -> None:
    replies(server, Reply(b"not gzip", 200, {"Content-Encoding": "gzip"}))
    with pytest.raises(FeedError, match="broke off or could not be unpacked"):
        transport.get(f"{server.url}/x", {})


def test_a_body_that_takes_too_long_is_an_error(
    server: ScriptedServer, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", -1)
    replies(server, Reply(b"x"))
    with pytest.raises(FeedError, match="did not arrive within"):
        transport.get(f"{server.url}/x", {})


def test_both_timeouts_are_always_set(
    server: ScriptedServer, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []
    plain = transport._session.send

    def send(*args: object, **kwargs: object) -> object:
        used.append(kwargs["timeout"])
        return plain(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(transport._session, "send", send)
    replies(server, Reply(b"x"))
    transport.get(f"{server.url}/x", {})
    assert used == [(3, 15)]


def test_a_server_that_never_answers_is_given_up(transport: HttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(FeedError, match=r"connection failed|no answer within"),
    ):
        transport.get(f"http://127.0.0.1:{silent.getsockname()[1]}/x", {})


def test_headers_win_over_a_netrc_file(
    server: ScriptedServer, transport: HttpTransport, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="utf-8") as file:
        file.write("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", netrc)
    replies(server, Reply(b"x"))
    transport.get(f"{server.url}/x", {"Authorization": f"Token {TOKEN}"})
    assert server.requests[0].headers["Authorization"] == f"Token {TOKEN}"


def test_a_token_does_not_follow_a_redirect_to_another_host(server: ScriptedServer, transport: HttpTransport) -> None:
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    server.routes["/x"] = lambda request: (
        Reply(b"end")
        if request.headers["Host"].startswith("localhost")
        else Reply(b"", 302, {"Location": f"{elsewhere}/x"})
    )
    assert transport.get(f"{server.url}/x", {"Authorization": f"Token {TOKEN}"}).body == b"end"
    assert [request.headers["Authorization"] for request in server.requests] == [f"Token {TOKEN}", None]


def test_redirects_end(server: ScriptedServer, transport: HttpTransport) -> None:
    replies(server, Reply(b"", 302, {"Location": "/x"}))
    with pytest.raises(FeedError, match="too many redirects"):
        transport.get(f"{server.url}/x", {})


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"http://user:{TOKEN}@127.0.0.1:1/x?key={TOKEN}&offset=5", {}),
        (f"http://127.0.0.1:1/{TOKEN}/x", {}),
        (f"http://[{TOKEN}/x", {}),
        (f"ftp://127.0.0.1/x?key={TOKEN}", {}),
        (f"http://{TOKEN}.invalid/x", {}),
        ("http://127.0.0.1:1/x", {"Authorization": f"Token {TOKEN}\n"}),
    ],
)
def test_no_error_holds_a_secret(transport: HttpTransport, url: str, headers: dict[str, str]) -> None:
    with pytest.raises(FeedError) as caught:
        transport.get(url, headers)
    assert TOKEN not in chain_text(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_nothing_logged_holds_the_token(
    server: ScriptedServer, transport: HttpTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    replies(server, Reply(hang_up=True), Reply(b"", 503), Reply(b"good"))
    transport.get(f"{server.url}/x", {"Authorization": f"Token {TOKEN}"})
    assert caplog.records
    assert TOKEN not in caplog.text


def test_a_shown_url_keeps_the_place_in_the_list_and_drops_the_rest() -> None:
    assert (
        shown_url("https://u:p@Host.example:8443/a/b?key=1&offset=20&limit=10&date=x#f")
        == "https://host.example:8443/a/b?offset=20&limit=10"
    )
