"""The OCPI registration, begun by either side, against a partner's platform that plays a script."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cryptography.fernet import Fernet

from ingestion import access
from ingestion.__main__ import main
from ingestion.receiver.handshake import read_credentials
from tests.ingestion.receiver.push_world import KEY, Platform, ReceiverProcess, issue, wanted_at, write_cpo
from tests.waiting import until
from warehouse.connection import Role, connect
from warehouse.strict_yaml import ConfigError

THEIR_TOKEN = "their-token-4711"  # noqa: S105
THEIR_FIRST_TOKEN = "their-first-token-0815"  # noqa: S105


class Partner:
    """A CPO's platform: versions, details and credentials of one version; keeps every request."""

    def __init__(self) -> None:
        self.version = "2.2.1"
        self.good_tokens = {THEIR_TOKEN, THEIR_FIRST_TOKEN}
        self.refused_methods: set[str] = set()
        self.versions_status = 200
        self.status_code = 1000
        self.takes_raw_only = False
        self.calls: list[tuple[str, str, str]] = []
        self.credentials: list[Any] = []
        self.looks_back = False
        self.saw_us: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                status, answer = outer._answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = _any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, Any]:
        presented = authorization.removeprefix("Token ")
        token = presented
        if presented not in self.good_tokens:
            try:
                token = "" if self.takes_raw_only else base64.b64decode(presented, validate=True).decode()
            except ValueError:
                token = ""
        self.calls.append((method, path, token))
        if token not in self.good_tokens:
            return 401, {"status_code": 2000}
        found: Any = None
        if path == "/versions":
            if self.versions_status != 200:
                return self.versions_status, {}
            found = [{"version": "2.0", "url": f"{self.url}/2.0"}, {"version": self.version, "url": f"{self.url}/v"}]
        elif path == "/v":
            endpoints = [
                {"identifier": "credentials", "role": "RECEIVER", "url": f"{self.url}/v/credentials"},
                {"identifier": "locations", "role": "SENDER", "url": "/v/locations"},
            ]
            found = {"version": self.version, "endpoints": endpoints}
        elif path == "/v/credentials":
            if method in self.refused_methods:
                return 405, {"status_code": 2000}
            sent = json.loads(body)
            self.credentials.append(sent)
            if self.looks_back:
                # As many platforms do before they answer.
                seen = httpx.get(sent["url"], headers={"Authorization": f"Token {sent['token']}"}, timeout=10)
                self.saw_us.append(seen.status_code)
            found = self.own(THEIR_TOKEN)
        return 200, {"data": found, "status_code": self.status_code, "timestamp": "2026-10-01T00:00:00Z"}

    def own(self, token: str) -> dict[str, Any]:
        """Its credentials object."""
        role = {"party_id": "ABC", "country_code": "AU", "business_details": {"name": "ABC"}}
        found = {"token": token, "url": f"{self.url}/versions"}
        return found | (role if self.version == "2.1.1" else {"roles": [{"role": "CPO", **role}]})


@pytest.fixture
def partner() -> Iterator[Partner]:
    found = Partner()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_KEY", KEY)


@pytest.fixture
def newcomer(abc: Platform) -> Iterator[Platform]:
    """A platform that has a token for registering, and no other."""
    with connect(Role.INGEST) as connection:
        access.revoke(connection, abc.cpo_id, datetime.now(UTC))
    token = issue(abc.cpo_id, "register")
    with Platform(str(abc.base_url), abc.cpo_id, token) as platform:
        yield platform


def credentials(platform: Platform, method: str, body: object = None, version: str = "2.2.1") -> tuple[int, Any]:
    answer = platform.request(method, f"/ocpi/{version}/credentials", json=body)
    return answer.status_code, answer.json()


def use(platform: Platform, token: str) -> None:
    platform.headers["Authorization"] = f"Token {token}"


def partner_of(cpo_id: str) -> access.Partner | None:
    with connect(Role.INGEST) as connection:
        return access.partner_of(connection, cpo_id)


def token_of(platform: Platform) -> str:
    return str(platform.headers["Authorization"]).partition(" ")[2]


# They register with us


def test_a_partner_registers_and_both_have_a_token_for_the_other(newcomer: Platform, partner: Partner) -> None:
    first = token_of(newcomer)
    status, answer = credentials(newcomer, "POST", partner.own(THEIR_TOKEN))
    assert (status, answer["status_code"]) == (200, 1000)
    ours = answer["data"]
    assert ours["url"] == f"{str(newcomer.base_url).rstrip('/')}/ocpi/versions"
    assert ours["roles"] == [
        {"role": "NAP", "party_id": "EVC", "country_code": "AU", "business_details": {"name": "Charge@Large"}}
    ]
    kept = partner_of(newcomer.cpo_id)
    assert kept is not None
    assert (kept.version, kept.versions_url, kept.token) == ("2.2.1", f"{partner.url}/versions", THEIR_TOKEN)
    assert {one["identifier"]: one["url"] for one in kept.endpoints}["locations"] == f"{partner.url}/v/locations"
    assert kept.roles[0]["party_id"] == "ABC"
    assert {token for _, _, token in partner.calls} == {THEIR_TOKEN}
    assert newcomer.get("/ocpi/versions").status_code == 401
    use(newcomer, ours["token"])
    assert newcomer.get("/ocpi/versions").status_code == 200
    assert ours["token"] != first
    assert wanted_at(newcomer.cpo_id) is not None
    with connect(Role.INGEST) as connection:
        stored = str(connection.execute("select one::text from access.sender_token as one").fetchall())
        stored += str(connection.execute("select one::text from access.partner as one").fetchall())
    assert ours["token"] not in stored
    assert THEIR_TOKEN not in stored


def test_credentials_of_2_1_1_have_the_party_at_the_top(
    receiver: ReceiverProcess, configs: Path, partner: Partner
) -> None:
    write_cpo(configs, "old", version="2.1.1")
    partner.version = "2.1.1"
    partner.takes_raw_only = True
    with Platform(receiver.url, "old", issue("old", "register")) as platform:
        until(lambda: platform.get("/ocpi/versions").status_code == 200)
        status, answer = credentials(platform, "POST", partner.own(THEIR_TOKEN), "2.1.1")
    assert (status, answer["status_code"]) == (200, 1000)
    assert sorted(answer["data"]) == ["business_details", "country_code", "party_id", "token", "url"]
    kept = partner_of("old")
    assert kept is not None
    assert kept.roles == [{"role": "CPO", "country_code": "AU", "party_id": "ABC", "business_details": {"name": "ABC"}}]


def test_who_is_registered_cannot_post_again_and_who_is_not_cannot_put(newcomer: Platform, partner: Partner) -> None:
    for method in ("PUT", "DELETE"):
        assert credentials(newcomer, method, partner.own(THEIR_TOKEN))[0] == 405
    _, answer = credentials(newcomer, "POST", partner.own(THEIR_TOKEN))
    use(newcomer, answer["data"]["token"])
    refused = newcomer.post("/ocpi/2.2.1/credentials", json=partner.own(THEIR_TOKEN))
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, PUT, DELETE")


def test_put_gives_new_tokens_and_the_old_one_is_good_for_a_moment(newcomer: Platform, partner: Partner) -> None:
    _, answer = credentials(newcomer, "POST", partner.own(THEIR_TOKEN))
    old = answer["data"]["token"]
    use(newcomer, old)
    partner.good_tokens.add("their-second-token")
    status, answer = credentials(newcomer, "PUT", partner.own("their-second-token"))
    assert (status, answer["status_code"]) == (200, 1000)
    assert answer["data"]["token"] != old
    kept = partner_of(newcomer.cpo_id)
    assert kept is not None
    assert kept.token == "their-second-token"  # noqa: S105
    assert newcomer.get("/ocpi/versions").status_code == 200
    with connect(Role.INGEST) as connection:
        still_good = {
            one.digest: one.valid_until for one in access.grants(connection) if one.feed_id == newcomer.cpo_id
        }
    assert still_good[access.digest_of(answer["data"]["token"])] is None
    until_ = still_good[access.digest_of(old)]
    assert until_ is not None
    assert datetime.now(UTC) < until_ <= datetime.now(UTC) + access.ROTATION_OVERLAP


def test_delete_ends_the_registration_and_its_tokens(newcomer: Platform, partner: Partner) -> None:
    _, answer = credentials(newcomer, "POST", partner.own(THEIR_TOKEN))
    use(newcomer, answer["data"]["token"])
    assert credentials(newcomer, "DELETE")[0] == 200
    assert partner_of(newcomer.cpo_id) is None
    assert newcomer.get("/ocpi/versions").status_code == 401


def test_get_answers_with_the_token_that_was_presented(newcomer: Platform) -> None:
    token = token_of(newcomer)
    use(newcomer, base64.b64encode(token.encode()).decode())
    status, answer = credentials(newcomer, "GET")
    assert (status, answer["data"]["token"]) == (200, token)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "credentials are not an object"),
        ({"url": "http://x/versions", "roles": []}, "token: is missing or no token"),
        ({"token": " ", "url": "http://x/versions"}, "token: is missing or no token"),
        ({"token": "secret-7", "url": "ftp://x", "roles": []}, "url: is missing or no HTTP address"),
        ({"token": "secret-7", "url": "http://x/versions", "roles": []}, "roles: is no list of roles"),
        (
            {"token": "secret-7", "url": "http://x/v", "roles": [{"role": "CPO"}]},
            "roles: role, country_code or party_id",
        ),
    ],
)
def test_credentials_that_cannot_be_used_are_2001_and_kept_nowhere(newcomer: Platform, body: object, said: str) -> None:
    status, answer = credentials(newcomer, "POST", body)
    assert (status, answer["status_code"]) == (200, 2001)
    assert answer["status_message"].startswith(said)
    assert newcomer.get("/ocpi/versions").status_code == 200
    with connect(Role.INGEST) as connection:
        assert "secret-7" not in str(connection.execute("select payload, reason from raw.quarantine").fetchall())


def test_a_partner_whose_own_api_does_not_answer_is_3001_and_can_try_again(
    newcomer: Platform, partner: Partner
) -> None:
    partner.versions_status = 404
    assert credentials(newcomer, "POST", partner.own(THEIR_TOKEN))[1]["status_code"] == 3001
    assert credentials(newcomer, "POST", partner.own("wrong-token"))[1]["status_code"] == 3001
    partner.versions_status = 200
    assert credentials(newcomer, "POST", partner.own(THEIR_TOKEN))[1]["status_code"] == 1000


def test_a_partner_without_the_agreed_version_is_3002(newcomer: Platform, partner: Partner) -> None:
    partner.version = "2.1.1"
    body = {**partner.own(THEIR_TOKEN), "roles": [{"role": "CPO", "country_code": "AU", "party_id": "ABC"}]}
    assert credentials(newcomer, "POST", body)[1]["status_code"] == 3002


def test_the_published_examples_of_credentials_are_read(shared_data: Path) -> None:
    found = {}
    for path in sorted((shared_data / "ocpi_examples").glob("*/credentials_*.json")):
        token, url, roles = read_credentials(json.loads(path.read_text(encoding="utf-8")))
        found[f"{path.parent.name}/{path.stem}"] = (token[:8], url, [role["party_id"] for role in roles])
    later = {
        "credentials_example": ("ebf3b399", "https://example.com/ocpi/versions", ["EXA"]),
        "credentials_example2": found["2.2.1/credentials_example2"],
        "credentials_example3": found["2.2.1/credentials_example3"],
        "credentials_example4": ("9e80aca8", "https://ocpi.example.com/versions", ["EXO", "PFC", "CGP"]),
    }
    assert found == {
        "2.1.1/credentials_01": ("ebf3b399", "https://example.com/ocpi/cpo/versions/", ["EXA"]),
        **{f"{version}/{name}": value for version in ("2.2.1", "2.3.0") for name, value in later.items()},
    }


# We register with them


@pytest.fixture
def ours(receiver: ReceiverProcess, configs: Path, partner: Partner, monkeypatch: pytest.MonkeyPatch) -> str:
    """A CPO with which we have not registered yet."""
    cpo_id = f"theirs_{partner.server.server_address[1]}"
    write_cpo(configs, cpo_id, versions_url=f"{partner.url}/versions", token_secret="THEIR_TOKEN_SECRET")  # noqa: S106
    monkeypatch.setenv("CPO_CONFIG_DIR", str(configs))
    monkeypatch.setenv("RECEIVER_URL", receiver.url)
    monkeypatch.setenv("THEIR_TOKEN_SECRET", THEIR_FIRST_TOKEN)
    return cpo_id


def test_we_register_and_the_partner_can_look_at_us_meanwhile(
    ours: str, receiver: ReceiverProcess, partner: Partner, capsys: pytest.CaptureFixture[str]
) -> None:
    # The receiver looks for new files once a second.
    until(
        lambda: httpx.get(f"{receiver.url}/ocpi/versions", headers={"Authorization": f"Token {issue(ours)}"}).is_success
    )
    partner.looks_back = True
    assert main(["register", "--cpo", ours]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{ours}: registered with {partner.url}/versions by POST, version 2.2.1\n"
    assert partner.saw_us == [200]
    assert [(method, path, token) for method, path, token in partner.calls] == [
        ("GET", "/versions", THEIR_FIRST_TOKEN),
        ("GET", "/v", THEIR_FIRST_TOKEN),
        ("POST", "/v/credentials", THEIR_FIRST_TOKEN),
    ]
    sent = partner.credentials[0]
    assert (sent["url"], sent["roles"][0]["role"]) == (f"{receiver.url}/ocpi/versions", "NAP")
    kept = partner_of(ours)
    assert kept is not None
    assert kept.token == THEIR_TOKEN
    assert wanted_at(ours) is not None
    with Platform(receiver.url, ours, sent["token"]) as platform:
        assert platform.get("/ocpi/versions").status_code == 200
    assert sent["token"] not in printed.out + printed.err


def test_we_register_again_with_put_and_the_token_that_we_have(ours: str, partner: Partner) -> None:
    assert main(["register", "--cpo", ours]) == 0
    partner.calls.clear()
    assert main(["register", "--cpo", ours]) == 0
    assert partner.calls[-1] == ("PUT", "/v/credentials", THEIR_TOKEN)


def test_a_partner_that_knows_us_already_gets_a_put(ours: str, partner: Partner) -> None:
    partner.refused_methods = {"POST"}
    assert main(["register", "--cpo", ours]) == 0
    assert [call[0] for call in partner.calls[-2:]] == ["POST", "PUT"]


@pytest.mark.parametrize("fault", ["code", "token", "versions"])
def test_a_registration_that_fails_leaves_no_token_and_says_why(
    ours: str, partner: Partner, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault == "code":
        partner.refused_methods = {"POST", "PUT"}
    elif fault == "token":
        partner.good_tokens.clear()
    else:
        partner.version = "2.3.0"
    assert main(["register", "--cpo", ours]) == 2
    said = capsys.readouterr().err
    assert {"code": "HTTP 405", "token": "401", "versions": "does not offer version 2.2.1"}[fault] in said
    assert THEIR_FIRST_TOKEN not in said
    assert partner_of(ours) is None
    with connect(Role.INGEST) as connection:
        assert [one for one in access.grants(connection) if one.feed_id == ours] == []


# Tokens


def test_a_token_is_printed_once_listed_by_its_mark_and_revoked(
    receiver: ReceiverProcess, configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(configs))
    write_cpo(configs, "listed")
    assert main(["tokens", "issue", "--cpo", "listed", "--purpose", "register"]) == 0
    token = capsys.readouterr().out.strip()
    assert main(["tokens", "list", "--cpo", "listed"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(access.digest_of(token).hex()[:8] + "  listed  register  issued ")
    assert token not in text
    assert main(["tokens", "revoke", "--cpo", "listed"]) == 0
    assert capsys.readouterr().out == "listed: 1 tokens ended\n"
    assert main(["tokens", "issue", "--cpo", "nobody"]) == 2


def test_a_polled_feed_gets_no_token(
    receiver: ReceiverProcess, configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(configs))
    write_cpo(configs, "files", kind="history", status_profile="history")
    assert main(["tokens", "issue", "--cpo", "files"]) == 2
    assert "sends nothing to the receiver" in capsys.readouterr().err


def test_a_wrong_key_is_told_by_name(newcomer: Platform, partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(newcomer, "POST", partner.own(THEIR_TOKEN))
    monkeypatch.setenv("CREDENTIALS_KEY", Fernet.generate_key().decode())
    with pytest.raises(ConfigError, match="CREDENTIALS_KEY: is not the key"):
        partner_of(newcomer.cpo_id)
    monkeypatch.setenv("CREDENTIALS_KEY", "short")
    with pytest.raises(ConfigError, match="must be 32 bytes"):
        partner_of(newcomer.cpo_id)


def test_only_ingestion_reads_who_has_access(receiver: ReceiverProcess) -> None:
    for role in (Role.TRANSFORM, Role.ANALYST, Role.PORTAL, Role.EXTRACT):
        with connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from access.sender_token")


def test_a_token_that_has_an_end_is_good_until_then() -> None:
    end = datetime(2026, 10, 1, tzinfo=UTC)
    grant = access.Grant(access.digest_of("t-1"), "abc", "send", end)
    assert access.find_grant("t-1", [grant], end - timedelta(seconds=1)) is grant
    assert access.find_grant("t-1", [grant], end) is None
    assert access.find_grant("t-2", [grant], end - timedelta(seconds=1)) is None
    assert access.find_grant("", [grant], end - timedelta(seconds=1)) is None
