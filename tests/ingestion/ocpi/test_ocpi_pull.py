from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_server import (
    LOCATIONS,
    OcpiScript,
    Reply,
    Request,
    ScriptedServer,
    envelope,
    location,
    pull_config,
)

from ingestion import paging
from ingestion.config import ConfigError, CpoConfig
from ingestion.http import HttpTransport
from ingestion.model import FeedError, Poll, PolledFeed
from ingestion.ocpi.client import EndpointLostError, OcpiClient
from ingestion.ocpi.paging import next_by_link, with_place
from ingestion.ocpi.pull import OcpiPull, page_sha256

TOKEN = "s3cret-t0ken"  # noqa: S105
ENCODED = "Token " + base64.b64encode(TOKEN.encode()).decode()
RAW = f"Token {TOKEN}"

Make = Callable[..., OcpiPull]


@pytest.fixture
def pull(server: ScriptedServer) -> Iterator[Make]:
    made: list[OcpiPull] = []

    def make(token: str = TOKEN, **settings: Any) -> OcpiPull:
        config = pull_config(server.url, **settings)
        made.append(OcpiPull(config, f"{server.url}/ocpi/versions", token, HttpTransport(backoff_seconds=0)))
        return made[-1]

    yield make
    for feed in made:
        feed.close()


def locations(count: int) -> list[dict[str, Any]]:
    return [location(f"L{number:03}") for number in range(count)]


def offsets(server: ScriptedServer) -> list[int]:
    """Which pages were asked, in order."""
    return [int(request.query["offset"]) for request in server.asked(LOCATIONS)]


def sites(poll: Poll) -> list[str]:
    return [asset.site_id for asset in poll.assets]


def all_sites(count: int) -> list[str]:
    return [f"L{number:03}" for number in range(count)]


def chain_text(error: BaseException) -> str:
    texts = []
    link: BaseException | None = error
    while link is not None:
        texts += [str(link), repr(link), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


def edit(change: Callable[[Any], Any]) -> Callable[[Request, Reply], Reply]:
    """Change the envelope of each answer."""

    def after(_: Request, reply: Reply) -> Reply:
        reply.body = json.dumps(change(json.loads(reply.body))).encode()
        return reply

    return after


# --- the whole way


def test_a_poll_finds_the_endpoint_and_reads_all_pages(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(120)).mount(server)
    feed: PolledFeed = pull()
    poll = feed.poll()
    assert sites(poll) == all_sites(120)
    assert (len(poll.statuses), poll.rejected, poll.is_unchanged) == (120, (), False)
    assert [request.path for request in server.requests] == [
        "/ocpi/versions",
        "/ocpi/2.2.1",
        *[LOCATIONS] * 3,
    ]
    assert offsets(server) == [0, 50, 100]
    assert server.asked(LOCATIONS)[0].query["limit"] == "100"


def test_the_endpoint_is_found_once(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(1)).mount(server)
    feed = pull()
    for _ in range(3):
        feed.poll()
    assert len(server.asked("/ocpi/versions")) == 1
    assert len(server.asked(LOCATIONS)) == 3


def test_rejected_objects_name_the_path_they_came_from(server: ScriptedServer, pull: Make) -> None:
    OcpiScript([location("A", id=""), location("B")]).mount(server)
    poll = pull().poll()
    assert sites(poll) == ["B"]
    assert [one.source for one in poll.rejected] == [LOCATIONS]


def test_an_empty_secret_and_another_kind_of_feed_are_refused(server: ScriptedServer) -> None:
    with pytest.raises(ConfigError, match="ABC_TOKEN is empty"):
        OcpiPull(pull_config(server.url), server.url, " \n")
    history = {"cpo_id": "abc", "name": "ABC"}
    history_feed = {"kind": "history", "status_profile": "history", "liveness_seconds": 300}
    with pytest.raises(ConfigError, match="history"):
        OcpiPull(CpoConfig.model_validate(history | {"feed": history_feed}), server.url, TOKEN)


def test_zones_in_the_settings_must_exist() -> None:
    for key in ("time_zone", "naive_time_zone"):
        with pytest.raises(ValueError, match="'AEST' is not an IANA time zone"):
            pull_config(**{key: "AEST"})


# --- token


def test_the_token_is_sent_in_base64_first(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(1)).mount(server).authorizations = {ENCODED, RAW}
    pull().poll()
    assert {request.headers["Authorization"] for request in server.requests} == {ENCODED}


def test_the_token_is_sent_raw_where_base64_is_refused_and_that_is_remembered(
    server: ScriptedServer, pull: Make
) -> None:
    OcpiScript(locations(1)).mount(server).authorizations = {RAW}
    feed = pull()
    feed.poll()
    feed.poll()
    assert [request.headers["Authorization"] for request in server.requests] == [ENCODED, RAW, RAW, RAW, RAW]


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"  {TOKEN}\r\n"])
def test_blanks_around_a_token_are_stripped(server: ScriptedServer, pull: Make, token: str) -> None:
    OcpiScript(locations(1)).mount(server).authorizations = {ENCODED}
    assert sites(pull(token).poll()) == ["L000"]


def test_a_token_that_no_header_can_hold_goes_in_base64_only(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(1)).mount(server).authorizations = set()
    with pytest.raises(FeedError, match="HTTP 401"):
        pull("pässwörd\x00x").poll()
    assert len(server.requests) == 1


def test_a_refused_token_is_an_error_without_the_token(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(1)).mount(server).authorizations = set()
    with pytest.raises(FeedError, match="HTTP 401") as caught:
        pull().poll()
    assert len(server.requests) == 2
    for text in (TOKEN, ENCODED.split()[1]):
        assert text not in chain_text(caught.value)


@pytest.mark.parametrize("echo", [TOKEN, ENCODED.split()[1]])
def test_a_token_that_the_answer_repeats_stays_out_of_errors(server: ScriptedServer, pull: Make, echo: str) -> None:
    server.routes["/ocpi/versions"] = lambda _: Reply(
        json.dumps({"status_code": 2001, "status_message": f"no token {echo} here"}).encode()
    )
    with pytest.raises(FeedError, match=r"status_code 2001 no token \*\*\* here") as caught:
        pull().poll()
    assert echo not in chain_text(caught.value)


def test_nothing_logged_holds_the_token(server: ScriptedServer, pull: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    OcpiScript(locations(1)).mount(server).authorizations = {RAW}
    pull().poll()
    assert "abc: 1 pages" in caplog.text
    assert TOKEN not in caplog.text
    assert ENCODED.split()[1] not in caplog.text


# --- discovery


def test_the_endpoint_is_looked_for_again_after_404(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(2)).mount(server)
    feed = pull()
    feed.poll()
    server.routes["/moved"] = server.routes.pop(LOCATIONS)
    endpoint = {"identifier": "locations", "role": "SENDER", "url": f"{server.url}/moved"}
    server.routes["/ocpi/2.2.1"] = lambda _: envelope({"version": "2.2.1", "endpoints": [endpoint]})
    script.items[0]["evses"][0]["status"] = "CHARGING"
    assert feed.poll().statuses["l000/l000-1"][0] == "CHARGING"
    assert feed.poll().is_unchanged
    assert len(server.asked("/ocpi/versions")) == 2


def test_the_endpoint_is_looked_for_again_after_401_and_then_it_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(2)).mount(server)
    feed = pull()
    feed.poll()
    server.routes[LOCATIONS] = lambda _: Reply(b"", 401)
    with pytest.raises(EndpointLostError, match="HTTP 401"):
        feed.poll()
    assert len(server.asked("/ocpi/versions")) == 2
    server.routes[LOCATIONS] = script.page
    assert feed.poll().is_unchanged


def test_a_404_in_the_middle_of_the_list_starts_it_again(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(80)).mount(server)
    feed = pull()
    feed.poll()
    lost = iter([True])
    script.after_page = lambda request, reply: (
        Reply(b"", 404) if request.query["offset"] == "50" and next(lost, False) else reply
    )
    assert feed.poll().is_unchanged
    assert offsets(server) == [0, 50, 0, 50, 0, 50]


def test_a_404_right_after_discovery_is_an_error(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(2)).mount(server)
    del server.routes[LOCATIONS]
    with pytest.raises(FeedError, match="HTTP 404"):
        pull().poll()
    assert len(server.asked("/ocpi/versions")) == 1


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ([{"version": "2.1.1", "url": "/x"}], "offers 2.1.1; not version 2.2.1"),
        ([], "offers nothing; not version 2.2.1"),
        (None, "no list of versions"),
        ({"versions": []}, "no list of versions"),
        ([{"version": "2.2.1"}], "an address is missing"),
        ([{"version": "2.2.1", "url": 5}], "an address is missing"),
        ([{"version": "2.2.1", "url": "file:///etc/passwd"}], "is no HTTP address"),
        ([{"version": "2.2.1", "url": "http://[x/"}], "cannot be read"),
    ],
)
def test_versions_that_lead_nowhere_are_an_error(
    server: ScriptedServer, pull: Make, versions: Any, message: str
) -> None:
    server.routes["/ocpi/versions"] = lambda _: envelope(versions)
    with pytest.raises(FeedError, match=message):
        pull().poll()


@pytest.mark.parametrize(
    "endpoints",
    [
        [],
        [{"identifier": "locations", "role": "RECEIVER", "url": "/x"}],
        [{"identifier": "tariffs", "role": "SENDER", "url": "/x"}],
        ["locations"],
    ],
)
def test_details_without_the_senders_locations_are_an_error(server: ScriptedServer, pull: Make, endpoints: Any) -> None:
    OcpiScript(locations(1)).mount(server)
    server.routes["/ocpi/2.2.1"] = lambda _: envelope({"version": "2.2.1", "endpoints": endpoints})
    with pytest.raises(FeedError, match="no locations endpoint with role SENDER"):
        pull().poll()


def follow(base: str, url: str) -> str:
    return OcpiClient(HttpTransport(), base, "2.2.1", TOKEN)._follow(base, url)


def test_an_https_party_is_never_asked_over_http() -> None:
    base = "https://cpo.example/ocpi/versions"
    assert follow(base, "http://cpo.example/ocpi/2.2.1?x=1") == "https://cpo.example/ocpi/2.2.1?x=1"
    assert follow(base, "http://cpo.example:80/y") == "https://cpo.example/y"
    assert follow(base, "/y") == "https://cpo.example/y"
    assert follow(base, "https://other.example/y") == "https://other.example/y"
    for url in ("http://other.example/y", "http://cpo.example:8080/y"):
        with pytest.raises(FeedError, match="would send the token in clear"):
            follow(base, url)
    assert follow("http://cpo.example/v", "http://other.example/y") == "http://other.example/y"


# --- paging


def test_without_links_the_next_offset_is_what_was_received(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(120), page_cap=50, link=False).mount(server)
    assert sites(pull().poll()) == all_sites(120)
    assert offsets(server) == [0, 50, 100]


def test_links_are_followed_with_their_own_query(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(90), page_cap=30, link=False, total=False).mount(server)
    cursors = {"": ("one", 0), "one": ("two", 30), "two": (None, 60)}

    def by_cursor(request: Request) -> Reply:
        following, offset = cursors[request.query.get("cursor", "")]
        reply = envelope(script.items[offset : offset + 30])
        if following:
            reply.headers["Link"] = f'<{server.url}{LOCATIONS}?cursor={following}>; rel="next"'
        return reply

    server.routes[LOCATIONS] = by_cursor
    assert sites(pull().poll()) == all_sites(90)
    assert [request.query for request in server.asked(LOCATIONS)] == [
        {"offset": "0", "limit": "100"},
        {"cursor": "one"},
        {"cursor": "two"},
    ]


@pytest.mark.parametrize(
    "link",
    [
        '<https://127.0.0.1:{port}{path}?offset=70&limit=50>; rel="next"',
        '<http://elsewhere.invalid{path}?offset=70&limit=50>; rel="next"',
        '<http://127.0.0.1:{port}/ocpi/locations?offset=70&limit=50>; rel="next"',
        '<http://127.0.0.1:{port}{path}?offset=70&limit=50>; rel="prev"',
        '<>; rel="next"',
        "",
        "nonsense",
        '<http://[oops>; rel="next"',
    ],
)
def test_a_link_that_points_elsewhere_is_not_followed(server: ScriptedServer, pull: Make, link: str) -> None:
    script = OcpiScript(locations(120), link=False).mount(server)

    def add_link(_: Request, reply: Reply) -> Reply:
        reply.headers["Link"] = link.replace("{port}", server.url.rpartition(":")[2]).replace("{path}", LOCATIONS)
        return reply

    script.after_page = add_link
    assert sites(pull().poll()) == all_sites(120)
    assert offsets(server) == [0, 50, 100]


def test_a_link_may_be_one_of_several_and_relative() -> None:
    endpoint = "https://Cpo.example/ocpi/locations"
    assert (
        next_by_link(endpoint, f"{endpoint}?offset=0", '<?offset=0>; rel="first", <?offset=9>; rel="next"')
        == "https://Cpo.example/ocpi/locations?offset=9"
    )
    assert next_by_link(endpoint, endpoint, '<https://cpo.example:443/ocpi/locations?offset=9>; rel="next"')
    assert next_by_link(endpoint, endpoint, '<https://cpo.example:444/ocpi/locations?offset=9>; rel="next"') is None


def test_the_endpoints_own_query_is_kept() -> None:
    assert with_place("https://a.example/l?key=1&limit=5", 7) == "https://a.example/l?key=1&offset=7&limit=100"


def test_a_link_that_skips_objects_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(120), page_cap=50, link=False).mount(server)

    def add_link(request: Request, reply: Reply) -> Reply:
        if request.query["offset"] == "0":
            reply.headers["Link"] = f'<{server.url}{LOCATIONS}?offset=100&limit=100>; rel="next"'
        return reply

    script.after_page = add_link
    with pytest.raises(FeedError, match="answered 70 of 120"):
        pull().poll()


def test_links_that_point_elsewhere_half_way_do_not_end_the_list(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(120), total=False).mount(server)

    def lead_astray(request: Request, reply: Reply) -> Reply:
        if request.query["offset"] == "50":
            reply.headers["Link"] = '<http://elsewhere.invalid/x>; rel="next"'
        return reply

    script.after_page = lead_astray
    with pytest.raises(FeedError, match="points elsewhere"):
        pull().poll()


def test_links_that_stop_before_the_total_are_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(120)).mount(server)

    def stop(request: Request, reply: Reply) -> Reply:
        if request.query["offset"] == "50":
            del reply.headers["Link"]
        return reply

    script.after_page = stop
    with pytest.raises(FeedError, match="answered 100 of 120"):
        pull().poll()


def test_a_link_to_the_same_page_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(120)).mount(server)

    def add_link(request: Request, reply: Reply) -> Reply:
        reply.headers["Link"] = f'<{server.url}{LOCATIONS}?offset=0&limit=100>; rel="next"'
        return reply

    script.after_page = add_link
    with pytest.raises(FeedError, match="leads back to a page already read"):
        pull().poll()
    assert offsets(server) == [0]


@pytest.mark.parametrize("total", [True, False])
def test_a_page_that_does_not_advance_is_an_error(server: ScriptedServer, pull: Make, total: bool) -> None:
    script = OcpiScript(locations(120), link=False, total=total).mount(server)
    plain = script.page
    server.routes[LOCATIONS] = lambda request: plain(Request(request.path, {"offset": "0", "limit": "50"}, {}))
    with pytest.raises(FeedError, match=r"offset=50.*does not advance"):
        pull().poll()
    assert offsets(server) == [0, 50]


def test_pages_that_go_in_a_circle_are_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(20), page_cap=10, link=False, total=False).mount(server)
    plain = script.page
    server.routes[LOCATIONS] = lambda request: plain(
        Request(request.path, request.query | {"offset": str(int(request.query["offset"]) % 20)}, {})
    )
    with pytest.raises(FeedError, match=r"offset=20.*does not advance"):
        pull().poll()


def test_a_list_without_end_is_an_error(server: ScriptedServer, pull: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_PAGES", 5)
    OcpiScript([]).mount(server)
    server.routes[LOCATIONS] = lambda request: envelope([location(request.query["offset"])])
    with pytest.raises(FeedError, match="no end after 5 pages"):
        pull().poll()
    assert len(server.asked(LOCATIONS)) == 5


def test_without_a_total_the_list_ends_at_an_empty_page(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(120), page_cap=50, link=False, total=False).mount(server)
    assert sites(pull().poll()) == all_sites(120)
    assert offsets(server) == [0, 50, 100, 120]


def test_without_a_total_a_page_shorter_than_the_servers_own_limit_is_the_last(
    server: ScriptedServer, pull: Make
) -> None:
    script = OcpiScript(locations(120), page_cap=50, link=False, total=False).mount(server)

    def add_limit(_: Request, reply: Reply) -> Reply:
        reply.headers["X-Limit"] = "50"
        return reply

    script.after_page = add_limit
    assert sites(pull().poll()) == all_sites(120)
    assert offsets(server) == [0, 50, 100]


def test_a_page_shorter_than_the_limit_asked_for_is_not_taken_for_the_last(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(60), page_cap=30, link=False, total=False).mount(server)
    assert sites(pull().poll()) == all_sites(60)


def test_a_list_that_takes_longer_than_it_proves_anything_is_an_error(
    server: ScriptedServer, pull: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = OcpiScript(locations(120)).mount(server)
    seconds = [0.0]
    monkeypatch.setattr("ingestion.ocpi.pull.monotonic", lambda: seconds[0])

    def pass_time(_: Request) -> None:
        seconds[0] += 100

    script.before_page = pass_time
    assert len(pull(liveness_seconds=200).poll().statuses) == 120
    with pytest.raises(FeedError, match=r"offset=100.*did not arrive within liveness_seconds, 199 s"):
        pull(liveness_seconds=199).poll()


def test_an_empty_page_before_the_total_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(80), link=False).mount(server)

    def claim(_: Request, reply: Reply) -> Reply:
        reply.headers["X-Total-Count"] = "100"
        return reply

    script.after_page = claim
    with pytest.raises(FeedError, match="answered 80 of 100"):
        pull().poll()


def test_a_total_below_what_was_answered_proves_nothing(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(120), link=False).mount(server)

    def claim(_: Request, reply: Reply) -> Reply:
        reply.headers["X-Total-Count"] = "40"
        return reply

    script.after_page = claim
    with pytest.raises(FeedError, match="answered 50 of 40"):
        pull().poll()


@pytest.mark.parametrize("total", ["", "many", "-1", "1e2"])
def test_a_total_that_is_no_count_is_passed_over(server: ScriptedServer, pull: Make, total: str) -> None:
    script = OcpiScript(locations(70), link=False).mount(server)

    def claim(_: Request, reply: Reply) -> Reply:
        reply.headers["X-Total-Count"] = total
        return reply

    script.after_page = claim
    assert sites(pull().poll()) == all_sites(70)
    assert offsets(server) == [0, 50, 70]


# --- a list that moves while it is read


def test_a_total_that_changes_between_pages_makes_the_list_be_read_again(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(100)).mount(server)
    removals = iter([3])

    def remove(request: Request) -> None:
        if request.query["offset"] == "50":
            for number in removals:
                del script.items[number]

    script.before_page = remove
    poll = pull().poll()
    # Without the second reading L050 would be lost: it slipped to the first page.
    assert sites(poll) == [name for name in all_sites(100) if name != "L003"]
    assert offsets(server) == [0, 50, 0, 50]


def test_a_total_that_never_stands_still_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(100)).mount(server)
    script.before_page = lambda _: script.items.append(location(f"N{len(script.items)}"))
    with pytest.raises(FeedError, match="the announced total went from 105 to 106 between pages"):
        pull().poll()
    assert offsets(server) == [0, 50, 0, 50, 0, 50]


def to_the_front(script: OcpiScript, moves: Iterator[int]) -> None:
    """Objects move to the front as their update does in a list ordered by last_updated."""

    def move(request: Request) -> None:
        if request.query["offset"] == "50":
            for number in moves:
                script.items.insert(0, script.items.pop(number))
                break

    script.before_page = move


def test_an_object_that_slips_through_while_the_list_is_reordered_is_read_in_a_second_pass(
    server: ScriptedServer, pull: Make
) -> None:
    script = OcpiScript(locations(100)).mount(server)
    to_the_front(script, iter([70]))
    poll = pull().poll()
    assert sorted(sites(poll)) == all_sites(100)
    assert poll.rejected == ()
    assert offsets(server) == [0, 50, 0, 50]


def test_passes_over_a_list_that_keeps_moving_complete_each_other_and_the_latest_word_counts(
    server: ScriptedServer, pull: Make
) -> None:
    script = OcpiScript(locations(100)).mount(server)
    to_the_front(script, iter([70, 80, 90]))

    move = script.before_page

    def change(request: Request) -> None:
        move(request)
        for item in script.items:
            item["evses"][0]["status"] = f"ASKED{len(offsets(server))}"

    script.before_page = change
    poll = pull().poll()
    assert sorted(sites(poll)) == all_sites(100)
    assert poll.rejected == ()
    assert offsets(server) == [0, 50, 0, 50]
    assert [poll.statuses[f"{site}/{site}-1"][0] for site in ("l010", "l095")] == ["ASKED3", "ASKED4"]


def test_passes_that_do_not_complete_each_other_are_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(100)).mount(server)
    # Each time the same object hides on the page that is not asked for.
    hidden = script.items[70]

    def hide(request: Request) -> None:
        script.items.remove(hidden)
        script.items.insert(0 if request.query["offset"] == "50" else 70, hidden)

    rotate = iter(range(10))

    def shuffle(request: Request) -> None:
        if request.query["offset"] == "0":
            rest = [item for item in script.items if item is not hidden]
            turn = next(rotate)
            script.items[:] = rest[turn:] + rest[:turn]
            script.items.insert(70, hidden)
        hide(request)

    script.before_page = shuffle
    with pytest.raises(FeedError, match="the list moved while it was read, 99 of 100 were found"):
        pull().poll()
    assert offsets(server) == [0, 50] * 3


def test_an_object_that_the_source_lists_twice_is_no_movement(server: ScriptedServer, pull: Make) -> None:
    items = locations(100)
    items[90] = location("L010", name="Again", evses=[{**items[10]["evses"][0], "status": "BLOCKED"}])
    OcpiScript(items).mount(server)
    feed = pull()
    poll = feed.poll()
    assert sites(poll) == [name for name in all_sites(100) if name != "L090"]
    assert [one.reason for one in poll.rejected] == ["repeated in the same answer"]
    assert offsets(server) == [0, 50, 0, 50]
    assert feed.poll().is_unchanged
    assert offsets(server) == [0, 50, 0, 50, 0, 50]


def test_an_object_twice_on_one_page_is_the_sources_doing(server: ScriptedServer, pull: Make) -> None:
    OcpiScript([*locations(3), location("L001")]).mount(server)
    poll = pull().poll()
    assert sites(poll) == all_sites(3)
    assert offsets(server) == [0]


def test_objects_without_an_id_count_as_well(server: ScriptedServer, pull: Make) -> None:
    items: list[Any] = [*locations(2), None, 5, location("x", id=None), location("y", id={})]
    OcpiScript(items, page_cap=2).mount(server)
    poll = pull().poll()
    assert sites(poll) == all_sites(2)
    assert len(poll.rejected) == 4


# --- failures that look like answers


@pytest.mark.parametrize("code", [2000, 2001, 3000, 3001, "3000", 999, 10000, 0, None, True, "x", "1" * 5000, [1000]])
def test_http_200_with_a_failing_status_code_is_an_error(server: ScriptedServer, pull: Make, code: object) -> None:
    script = OcpiScript(locations(2)).mount(server)
    script.after_page = edit(lambda document: document | {"status_code": code, "data": []})
    with pytest.raises(FeedError, match="HTTP 200, but OCPI status_code"):
        pull().poll()


@pytest.mark.parametrize("code", [1000, 1999, "1000"])
def test_any_status_code_of_success_is_taken(server: ScriptedServer, pull: Make, code: object) -> None:
    script = OcpiScript(locations(2)).mount(server)
    script.after_page = edit(lambda document: document | {"status_code": code})
    assert len(pull().poll().statuses) == 2


def test_a_failing_status_code_on_a_later_page_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(80)).mount(server)
    feed = pull()
    feed.poll()
    fail = edit(lambda document: document | {"status_code": 3000, "data": []})
    script.after_page = lambda request, reply: fail(request, reply) if request.query["offset"] == "50" else reply
    with pytest.raises(FeedError, match="status_code 3000"):
        feed.poll()


@pytest.mark.parametrize("data", [None, {}, {"items": []}, "x", 5])
def test_data_that_is_no_list_is_an_error(server: ScriptedServer, pull: Make, data: object) -> None:
    script = OcpiScript(locations(2)).mount(server)
    script.after_page = edit(lambda document: document | {"data": data})
    with pytest.raises(FeedError, match="data is not a list"):
        pull().poll()


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "the body is empty"),
        (b" <!DOCTYPE html><html>", "the body is HTML or XML, not JSON"),
        (b"{'a': 1}", "the body is not JSON, or cut short"),
        (b"5", "no OCPI answer"),
        (b'{"data": []}', "no OCPI answer"),
        (b'[{"id": "L1"}]', "a feed of kind rest_pull reads such a list"),
        (b'{"next": "/page2", "items": [{"id": "L1"}]}', "a feed of kind rest_pull reads such a list"),
        (b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "the body is nested deeper than 64 levels"),
    ],
)
def test_a_body_that_is_no_ocpi_answer_is_an_error(server: ScriptedServer, pull: Make, body: bytes, what: str) -> None:
    script = OcpiScript(locations(2)).mount(server)
    script.after_page = lambda _, reply: Reply(body, 200, reply.headers)
    with pytest.raises(FeedError, match=what):
        pull().poll()


def test_a_body_cut_by_the_connection_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(80)).mount(server)
    script.after_page = lambda _, reply: Reply(reply.body, 200, reply.headers, cut_to=len(reply.body) // 2)
    with pytest.raises(FeedError, match="broke off"):
        pull().poll()


def test_a_body_cut_by_the_server_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(80)).mount(server)
    script.after_page = lambda _, reply: Reply(reply.body[: len(reply.body) // 2], 200, reply.headers)
    with pytest.raises(FeedError, match="not JSON, or cut short"):
        pull().poll()


@pytest.mark.parametrize("status", [201, 204, 206, 400, 403, 500, 503])
def test_any_other_http_status_is_an_error(server: ScriptedServer, pull: Make, status: int) -> None:
    script = OcpiScript(locations(2)).mount(server)
    script.after_page = lambda _, reply: Reply(reply.body if status != 204 else b"", status, reply.headers)
    with pytest.raises(FeedError, match=f"HTTP {status}"):
        pull().poll()


def test_a_server_error_that_passes_is_survived(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(80)).mount(server)
    failures = iter([500, 429, 503])

    def fail(_: Request, reply: Reply) -> Reply:
        status = next(failures, 200)
        return reply if status == 200 else Reply(b"", status)

    script.after_page = fail
    script.page_cap = 80
    feed = pull()
    with pytest.raises(FeedError, match="HTTP 503"):
        feed.poll()
    assert len(feed.poll().statuses) == 80


@pytest.mark.parametrize("before", [True, False])
def test_an_empty_list_counts_only_where_the_total_says_zero(server: ScriptedServer, pull: Make, before: bool) -> None:
    script = OcpiScript(locations(2), total=False).mount(server)
    feed = pull()
    if before:
        feed.poll()
    script.items = []
    with pytest.raises(FeedError, match="empty list without X-Total-Count: 0"):
        feed.poll()
    script.total = True
    poll = feed.poll()
    assert (poll.statuses, poll.is_unchanged) == ({}, False)


# --- short cuts


def test_an_answer_that_differs_by_its_timestamp_only_is_unchanged(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(80)).mount(server)
    feed = pull()
    first = feed.poll()
    again = feed.poll()
    assert again == Poll(first.body_sha256, is_unchanged=True)
    script.items[79]["evses"][0]["status"] = "CHARGING"
    changed = feed.poll()
    assert not changed.is_unchanged
    assert changed.body_sha256 != first.body_sha256
    assert changed.statuses["l079/l079-1"][0] == "CHARGING"
    assert len(changed.assets) == 80
    assert feed.poll().is_unchanged


def test_a_failed_answer_in_between_leaves_the_last_complete_one_to_compare_with(
    server: ScriptedServer, pull: Make
) -> None:
    script = OcpiScript(locations(80)).mount(server)
    feed = pull()
    feed.poll()
    script.items[0]["evses"][0]["status"] = "CHARGING"
    script.after_page = lambda request, reply: Reply(b"", 400) if request.query["offset"] == "50" else reply
    with pytest.raises(FeedError):
        feed.poll()
    script.after_page = lambda _, reply: reply
    poll = feed.poll()
    assert not poll.is_unchanged
    assert poll.statuses["l000/l000-1"][0] == "CHARGING"


def test_a_list_that_lost_a_page_is_not_unchanged(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(100)).mount(server)
    feed = pull()
    feed.poll()
    del script.items[50:]
    poll = feed.poll()
    assert not poll.is_unchanged
    assert sites(poll) == all_sites(50)


def test_a_forgotten_answer_is_told_in_full_again(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(2)).mount(server).etags = True
    feed = pull()
    first = feed.poll()
    feed.forget()
    assert feed.poll() == first


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ('{"timestamp":"1","data":[1]}', '{"timestamp":"2","data":[1]}', True),
        (
            '{ "status_code":1000, "timestamp" : "1","data":[1]}',
            '{ "status_code":1000, "timestamp" : "2","data":[1]}',
            True,
        ),
        (
            '{"status_message":"a \\" b","timestamp":"1","data":[1]}',
            '{"status_message":"a \\" b","timestamp":"2","data":[1]}',
            True,
        ),
        ('{"data":[1],"timestamp":"1"}', '{"data":[1],"timestamp":"2"} \n', False),
        ('{"data":[1],"timestamp":"1"}', '{"data":[1],"timestamp":"2"}', True),
        (
            '{"data":[1],"timestamp":"1","status_code":1000,"status_message":null}',
            '{"data":[1],"timestamp":"2","status_code":1000,"status_message":null}',
            True,
        ),
        (
            '{"data":[1],"timestamp":"1","status_code":1000}',
            '{"data":[1],"timestamp":"1","status_code":2000}',
            False,
        ),
        ('{"data":[{"timestamp":"1"}]}', '{"data":[{"timestamp":"2"}]}', False),
        ('{"data":{"timestamp":"1"}}', '{"data":{"timestamp":"2"}}', False),
        ('[{"timestamp":"1"}]', '[{"timestamp":"2"}]', False),
        ('{"data":"\\"timestamp\\":\\"1\\""}', '{"data":"\\"timestamp\\":\\"2\\""}', False),
        ('{"timestamp":"1","data":[1]}', '{"timestamp":"1","data":[2]}', False),
    ],
)
def test_only_the_envelopes_own_timestamp_is_left_out_of_the_hash(left: str, right: str, same: bool) -> None:
    assert (page_sha256(left.encode()) == page_sha256(right.encode())) is same


def test_pages_confirmed_by_etag_are_unchanged(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(120)).mount(server).etags = True
    feed = pull()
    first = feed.poll()
    again = feed.poll()
    assert again == Poll(first.body_sha256, is_unchanged=True)
    asked = server.asked(LOCATIONS)
    assert [bool(request.headers["If-None-Match"]) for request in asked] == [False] * 3 + [True] * 3


def test_objects_of_confirmed_pages_are_used_beside_those_of_new_ones(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(120)).mount(server)
    script.etags = True
    feed = pull()
    feed.poll()
    script.items[60]["evses"][0]["status"] = "CHARGING"
    poll = feed.poll()
    assert sites(poll) == all_sites(120)
    assert poll.statuses["l060/l060-1"][0] == "CHARGING"
    assert feed.poll().is_unchanged


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("headers_on_304", [True, False])
def test_confirmed_pages_do_not_hide_that_the_list_grew(
    server: ScriptedServer, pull: Make, headers_on_304: bool, link: bool
) -> None:
    script = OcpiScript(locations(100), link=link).mount(server)
    script.etags = True
    script.headers_on_304 = headers_on_304
    feed = pull()
    feed.poll()
    assert feed.poll().is_unchanged
    script.items.append(location("L100"))
    poll = feed.poll()
    assert not poll.is_unchanged
    assert sites(poll) == all_sites(101)


def test_a_304_that_tells_nothing_of_the_end_is_asked_for_in_full_once_and_then_always(
    server: ScriptedServer, pull: Make
) -> None:
    script = OcpiScript(locations(100)).mount(server)
    script.etags, script.headers_on_304 = True, False
    feed = pull()
    for _ in range(3):
        feed.poll()
    conditions = [
        (request.query["offset"], bool(request.headers["If-None-Match"])) for request in server.asked(LOCATIONS)
    ]
    assert conditions == [
        ("0", False),
        ("50", False),
        ("0", True),
        ("50", True),
        ("50", False),
        ("0", True),
        ("50", False),
    ]


def test_after_a_failure_nothing_is_asked_conditionally(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(100)).mount(server)
    script.etags = True
    feed = pull()
    feed.poll()
    script.items.append(location("L100"))

    def drop_link(_: Request, reply: Reply) -> Reply:
        # A server that tells the total with a 304, but not that there is a next page now.
        if reply.status == 304:
            reply.headers.pop("Link", None)
        return reply

    script.after_page = drop_link
    with pytest.raises(FeedError, match="answered 100 of 101"):
        feed.poll()
    assert sites(feed.poll()) == all_sites(101)


def test_a_304_nobody_asked_for_is_an_error(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(2)).mount(server)
    feed = pull()
    feed.poll()
    script.after_page = lambda _, reply: Reply(b"", 304, reply.headers)
    for poll in (feed.poll, pull().poll):
        with pytest.raises(FeedError, match="HTTP 304 to a question without a condition"):
            poll()
