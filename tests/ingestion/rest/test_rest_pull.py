"""A CPO's own JSON asked over a real connection: whole lists, pages, statuses apart, and each way an answer goes bad."""

from __future__ import annotations

import gzip
import json
import logging
from typing import Any

import pytest
from rest_script import (
    ASSETS,
    STATUSES,
    Pages,
    paged_config,
    pair_config,
    port,
    ports,
    pull,
    reply,
    rest_config,
    serve,
)

from ingestion import paging as shared_paging
from ingestion.http import HttpTransport
from ingestion.model import FeedError, Poll
from ingestion.rest.pull import RestPull
from tests.ingestion.ocpi.scripted_server import Reply, Request, ScriptedServer

PAGINGS: dict[str, dict[str, Any]] = {
    "page": {"kind": "page", "size_parameter": "per_page", "size": 10},
    "page with total": {"kind": "page", "total": "total"},
    "offset": {"kind": "offset"},
    "offset with total": {"kind": "offset", "total": "total"},
    "cursor": {"kind": "cursor", "next": "next", "parameter": "after"},
    "cursor url": {"kind": "cursor", "next": "next_url"},
    "link": {"kind": "link"},
}


def words(poll: Poll) -> dict[str, str]:
    return {ref: word for ref, (word, _) in poll.statuses.items()}


def all_free(count: int) -> dict[str, str]:
    return {f"s1/p{number}": "free" for number in range(1, count + 1)}


# --- one list


def test_a_list_is_read_and_the_same_bytes_are_unchanged(server: ScriptedServer) -> None:
    serve(server, ports(3))
    feed = pull(rest_config(server.url))
    poll = feed.poll()
    assert (words(poll), poll.evse_count, poll.is_full, len(poll.assets)) == (all_free(3), 3, True, 3)
    again = feed.poll()
    assert (again.is_unchanged, again.body_sha256, again.assets) == (True, poll.body_sha256, ())
    serve(server, [port("P1", "busy"), *ports(3)[1:]])
    changed = feed.poll()
    assert (changed.is_unchanged, words(changed)["s1/p1"]) == (False, "busy")
    assert changed.body_sha256 != poll.body_sha256


def test_a_forgotten_answer_is_told_in_full_again(server: ScriptedServer) -> None:
    serve(server, ports(3))
    feed = pull(rest_config(server.url))
    feed.poll()
    feed.forget()
    assert words(feed.poll()) == all_free(3)


@pytest.mark.parametrize(("given", "asked"), [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")])
def test_an_answer_that_is_not_modified_is_unchanged(server: ScriptedServer, given: str, asked: str) -> None:
    mark = '"v1"' if given == "ETag" else "Thu, 01 Oct 2026 00:00:00 GMT"

    def answer(request: Request) -> Reply:
        return Reply(b"", 304) if request.headers.get(asked) == mark else reply({"items": ports(2)}, **{given: mark})

    server.routes[ASSETS] = answer
    feed = pull(rest_config(server.url))
    first = feed.poll()
    assert feed.poll() == Poll(first.body_sha256, is_unchanged=True)
    assert [request.headers.get(asked) for request in server.requests] == [None, mark]
    feed.forget()
    assert words(feed.poll()) == all_free(2)


def test_not_modified_without_a_condition_is_an_error(server: ScriptedServer) -> None:
    server.routes[ASSETS] = lambda _: Reply(b"", 304)
    with pytest.raises(FeedError, match="HTTP 304 to a question without a condition"):
        pull(rest_config(server.url)).poll()


def test_good_records_beside_bad_ones_go_in(server: ScriptedServer) -> None:
    serve(
        server,
        [
            port("P1"),
            port("P2", id=None),
            "noise",
            port("P3", None),
            port("P4", kw="lots"),
            port("P5", id="p1", state="busy"),
        ],
    )
    poll = pull(rest_config(server.url)).poll()
    assert words(poll) == {"s1/p1": "free", "s1/p4": "free"}
    assert [a.evse_id for a in poll.assets] == ["P1", "P3", "P4"]
    assert [(r.source, r.record_ref, r.field) for r in poll.rejected] == [
        (ASSETS, "S1/#0", "evse.evse_id (id)"),
        (ASSETS, "#2", None),
        (ASSETS, "S1/P3", "evse.status (state)"),
        (ASSETS, "S1/P4", "connector.power (kw)"),
        (ASSETS, "S1/p1", "evse.evse_id (id)"),
    ]
    assert poll.evse_count == 6


# --- what is no complete answer

HTML = b"<!doctype html><html><body>Please log in</body></html>"
DEEP = b'{"items": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply({"items": []}), r"no EVSE is listed; an empty list is never taken for the truth"),
        (reply({"items": None}), r"'items' gives null where a list belongs"),
        (reply({"items": {"P1": {}}}), r"'items' gives an object where a list belongs"),
        (reply({"error": "try later"}), r"'items' gives null where a list belongs"),
        (reply([]), r"'items' gives null where a list belongs"),
        (reply(None), r"'items' gives null where a list belongs"),
        (Reply(b""), r"the body is not JSON, or cut short \(0 bytes\)"),
        (Reply(HTML, headers={"Content-Type": "application/json"}), r"the body is not JSON, it looks like HTML"),
        (Reply(HTML, headers={"Content-Type": "text/html"}), r"the body is not JSON, it looks like HTML"),
        (Reply(json.dumps({"items": ports(9)}).encode()[:-40]), r"the body is not JSON, or cut short"),
        (Reply(json.dumps({"items": ports(9)}).encode(), cut_to=40), r"the body broke off or could not be unpacked"),
        (Reply(b"\xff\xfe{}"), r"the body is not JSON"),
        (Reply(DEEP), r"the body is not JSON"),
        (Reply(b"not gzip", headers={"Content-Encoding": "gzip"}), r"the body broke off or could not be unpacked"),
        (Reply(hang_up=True), r"connection failed"),
        (reply({"items": ports(3)}, 201), r"HTTP 201$"),
        (reply({"items": ports(3)}, 203), r"HTTP 203$"),
        (Reply(b"", 401), r"HTTP 401, the credentials are refused$"),
        (Reply(b"", 403), r"HTTP 403$"),
        (Reply(b"", 404), r"HTTP 404$"),
        (Reply(b"", 500), r"HTTP 500$"),
        (Reply(b"", 429, {"Retry-After": "0"}), r"HTTP 429$"),
    ],
)
def test_anything_short_of_a_complete_answer_is_an_error(server: ScriptedServer, answer: Reply, said: str) -> None:
    server.routes[ASSETS] = lambda _: answer
    feed = pull(rest_config(server.url))
    with pytest.raises(FeedError, match=rf"^GET {server.url}{ASSETS}: .*{said}"):
        feed.poll()
    serve(server, ports(2))
    assert words(feed.poll()) == all_free(2)


def test_a_wrong_content_type_does_not_matter_when_the_body_is_json(server: ScriptedServer) -> None:
    server.routes[ASSETS] = lambda _: Reply(
        json.dumps({"items": ports(2)}).encode(), headers={"Content-Type": "text/html"}
    )
    assert words(pull(rest_config(server.url)).poll()) == all_free(2)


def test_a_bare_list_must_be_a_list(server: ScriptedServer) -> None:
    mapping = {
        "site": {"site_id": "site", "latitude": "lat", "longitude": "lon"},
        "evse": {"evse_id": "id", "status": "state"},
    }
    server.routes[ASSETS] = lambda _: reply(port("P1"))
    feed = pull(rest_config(server.url, mapping=mapping))
    with pytest.raises(FeedError, match="'@' gives an object where a list belongs"):
        feed.poll()
    server.routes[ASSETS] = lambda _: reply(ports(2))
    assert words(feed.poll()) == all_free(2)


def test_numbers_that_are_no_json_cost_only_their_field(server: ScriptedServer) -> None:
    text = json.dumps({"items": ports(2)}).replace('"kw": 50', '"kw": NaN', 1).replace('"kw": 50', '"kw": 1e999', 1)
    server.routes[ASSETS] = lambda _: Reply(text.encode())
    poll = pull(rest_config(server.url)).poll()
    assert words(poll) == all_free(2)
    assert [a.power_kw for a in poll.assets] == [None, None]


def test_a_body_of_50_megabytes_is_read_and_one_beyond_the_limit_given_up(server: ScriptedServer) -> None:
    body = json.dumps({"items": ports(3), "blurb": "x" * 50_000_000}).encode()
    packed = gzip.compress(body, 1)
    server.routes[ASSETS] = lambda _: Reply(packed, headers={"Content-Encoding": "gzip"})
    assert words(pull(rest_config(server.url)).poll()) == all_free(3)
    feed = RestPull(rest_config(server.url), str, HttpTransport(max_body_bytes=1_000_000, backoff_seconds=0))
    with pytest.raises(FeedError, match="longer than the limit of 1000000 bytes"):
        feed.poll()


# --- pages


@pytest.mark.parametrize("name", PAGINGS)
@pytest.mark.parametrize("count", [1, 9, 10, 11, 30])
def test_every_way_of_paging_reads_all_pages(server: ScriptedServer, name: str, count: int) -> None:
    Pages(ports(count), 10, PAGINGS[name]["kind"]).mount(server)
    feed = pull(paged_config(server.url, PAGINGS[name]))
    poll = feed.poll()
    assert (words(poll), poll.evse_count, poll.rejected) == (all_free(count), count, ())
    assert feed.poll().is_unchanged


def test_a_change_on_one_page_is_seen(server: ScriptedServer) -> None:
    pages = Pages(ports(25), 10, "cursor").mount(server)
    feed = pull(paged_config(server.url, PAGINGS["cursor"]))
    feed.poll()
    pages.items[24] = port("P25", "busy")
    assert words(feed.poll()) == {**all_free(25), "s1/p25": "busy"}


def test_pages_are_numbered_and_sized_as_the_file_says(server: ScriptedServer) -> None:
    Pages(ports(25), 10, "page").mount(server)
    pull(paged_config(server.url, PAGINGS["page"])).poll()
    assert [request.query for request in server.requests] == [
        {"page": str(number), "per_page": "10"} for number in (1, 2, 3, 4)
    ]
    server.requests.clear()
    pull(paged_config(server.url, PAGINGS["page with total"])).poll()
    assert [request.query for request in server.requests] == [{"page": str(number)} for number in (1, 2, 3)]


def test_an_offset_is_what_was_received_when_the_server_caps_its_pages(server: ScriptedServer) -> None:
    Pages(ports(25), 10, "offset").mount(server)
    pull(paged_config(server.url, PAGINGS["offset"])).poll()
    assert [request.query["offset"] for request in server.requests] == ["0", "10", "20", "25"]
    assert {request.query["limit"] for request in server.requests} == {"100"}


@pytest.mark.parametrize("name", ["page", "offset", "page with total", "offset with total"])
def test_a_page_that_does_not_advance_is_an_error(server: ScriptedServer, name: str) -> None:
    server.routes[ASSETS] = lambda _: reply({"items": ports(10), "total": 30})
    with pytest.raises(FeedError, match="the page does not advance, it repeats an earlier one"):
        pull(paged_config(server.url, PAGINGS[name])).poll()


@pytest.mark.parametrize("following", ["c0", "c10"])
def test_a_cursor_that_leads_back_is_an_error(server: ScriptedServer, following: str) -> None:
    pages = Pages(ports(30), 10, "cursor").mount(server)
    pages.tamper = lambda request, document: (
        {**document, "next": following} if request.query.get("after") == "c10" else document
    )
    with pytest.raises(FeedError, match=r"leads back to a page already read|does not advance"):
        pull(paged_config(server.url, PAGINGS["cursor"])).poll()


@pytest.mark.parametrize("broken", [[1], {"a": 1}, True])
def test_a_cursor_that_is_none_is_an_error(server: ScriptedServer, broken: object) -> None:
    pages = Pages(ports(30), 10, "cursor").mount(server)
    pages.tamper = lambda _, document: {**document, "next": broken}
    with pytest.raises(FeedError, match="'next' gives no cursor"):
        pull(paged_config(server.url, PAGINGS["cursor"])).poll()


@pytest.mark.parametrize("end", [None, "", False])
def test_a_cursor_ends_with_null_an_empty_text_or_false(server: ScriptedServer, end: object) -> None:
    pages = Pages(ports(3), 10, "cursor").mount(server)
    pages.tamper = lambda _, document: {**document, "next": end}
    assert words(pull(paged_config(server.url, PAGINGS["cursor"])).poll()) == all_free(3)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/v1/ports?after=c10", "//elsewhere.example/x", "http://[", "ftp://127.0.0.1/x"]
)
def test_a_page_on_another_server_is_not_asked_for(server: ScriptedServer, address: str) -> None:
    pages = Pages(ports(30), 10, "cursor").mount(server)
    pages.tamper = lambda _, document: {**document, "next_url": address}
    with pytest.raises(FeedError, match="the address of the next page leads to another server"):
        pull(paged_config(server.url, PAGINGS["cursor url"])).poll()
    assert len(server.requests) == 1


@pytest.mark.parametrize("told", [None, "many", -1, 3.5, [30]])
def test_a_total_that_is_no_number_is_an_error(server: ScriptedServer, told: object) -> None:
    pages = Pages(ports(30), 10, "page").mount(server)
    pages.tamper = lambda _, document: {**document, "total": told}
    with pytest.raises(FeedError, match="'total' gives no number of objects"):
        pull(paged_config(server.url, PAGINGS["page with total"])).poll()


@pytest.mark.parametrize("name", ["page with total", "offset with total"])
def test_fewer_objects_than_announced_are_an_error(server: ScriptedServer, name: str) -> None:
    pages = Pages(ports(30), 10, PAGINGS[name]["kind"]).mount(server)
    pages.tamper = lambda _, document: {**document, "total": 40}
    with pytest.raises(FeedError, match="answered 30 of 40"):
        pull(paged_config(server.url, PAGINGS[name])).poll()


def test_a_total_that_never_stands_still_is_an_error(server: ScriptedServer) -> None:
    pages = Pages(ports(30), 10, "page").mount(server)
    totals = iter(range(30, 100))
    pages.tamper = lambda _, document: {**document, "total": next(totals)}
    with pytest.raises(FeedError, match=r"the announced total went from \d+ to \d+ between pages"):
        pull(paged_config(server.url, PAGINGS["page with total"])).poll()


def test_a_list_without_end_is_an_error(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_paging, "MAX_PAGES", 5)
    server.routes[ASSETS] = lambda request: reply({"items": [port(f"P{request.query['page']}")]})
    with pytest.raises(FeedError, match="no end after 5 pages"):
        pull(paged_config(server.url, {"kind": "page"})).poll()


def test_a_list_that_moves_while_it_is_read_is_read_again(server: ScriptedServer) -> None:
    pages = Pages(ports(25), 10, "offset").mount(server)

    def insert(request: Request, document: dict[str, Any]) -> dict[str, Any]:
        if request.query["offset"] == "0" and len(pages.items) == 25:
            pages.items.insert(0, port("P26"))
        return document

    pages.tamper = insert
    poll = pull(paged_config(server.url, PAGINGS["offset"])).poll()
    assert (words(poll), poll.rejected) == (all_free(26), ())


def test_a_list_that_never_stops_moving_is_an_error(server: ScriptedServer) -> None:
    pages = Pages(ports(25), 10, "offset").mount(server)

    def insert(request: Request, document: dict[str, Any]) -> dict[str, Any]:
        if request.query["offset"] == "0":
            pages.items.insert(0, port(f"Q{len(pages.items)}"))
        return document

    pages.tamper = insert
    with pytest.raises(FeedError, match="the list moved while it was read: "):
        pull(paged_config(server.url, PAGINGS["offset"])).poll()


def test_an_object_that_the_source_lists_twice_is_no_movement(server: ScriptedServer) -> None:
    Pages([*ports(15), port("P1"), port("P2", "busy")], 10, "offset").mount(server)
    feed = pull(paged_config(server.url, PAGINGS["offset"]))
    poll = feed.poll()
    assert (words(poll), [r.record_ref for r in poll.rejected]) == (all_free(15), ["S1/P2"])
    server.requests.clear()
    assert feed.poll().is_unchanged
    assert len(server.requests) == 3


def test_a_page_that_is_cut_off_costs_the_whole_poll(server: ScriptedServer) -> None:
    pages = Pages(ports(25), 10, "offset").mount(server)
    feed = pull(paged_config(server.url, PAGINGS["offset"]))
    server.routes[ASSETS] = lambda request: (
        Reply(b"{", 200) if request.query["offset"] == "20" else pages.answer(request)
    )
    with pytest.raises(FeedError, match=r"offset=20&limit=100: the body is not JSON"):
        feed.poll()


# --- statuses apart


def state(port_id: str, word: object = "free", **more: Any) -> dict[str, Any]:
    return {"id": port_id, "state": word, **more}


def test_two_lists_are_joined_and_either_changing_is_a_change(server: ScriptedServer) -> None:
    serve(server, ports(3, None))
    serve(server, [state("p1"), state("P2", "busy", at="2026-10-01T00:00:00Z")], STATUSES, "states")
    feed = pull(pair_config(server.url))
    poll = feed.poll()
    assert words(poll) == {"s1/p1": "free", "s1/p2": "busy"}
    assert (len(poll.assets), poll.rejected, poll.evse_count) == (3, (), 2)
    assert feed.poll().is_unchanged
    serve(server, [state("P1"), state("P2"), state("P3")], STATUSES, "states")
    assert words(feed.poll()) == all_free(3)
    serve(server, [*ports(2, None), port("P3", None, kw=150)])
    assert [str(a.power_kw) for a in feed.poll().assets] == ["50.000", "50.000", "150.000"]


def test_a_status_without_a_description_is_rejected_and_names_its_list(server: ScriptedServer) -> None:
    serve(server, ports(1, None))
    serve(server, [state("P1"), state("P9")], STATUSES, "states")
    poll = pull(pair_config(server.url)).poll()
    assert words(poll) == all_free(1)
    assert [(r.source, r.record_ref, r.reason) for r in poll.rejected] == [
        (STATUSES, "P9", "this EVSE is not described")
    ]


@pytest.mark.parametrize("path", [ASSETS, STATUSES])
def test_each_of_the_two_lists_must_be_there(server: ScriptedServer, path: str) -> None:
    serve(server, ports(2, None))
    serve(server, [state("P1"), state("P2")], STATUSES, "states")
    server.routes[path] = lambda _: reply({"items": None, "states": None})
    with pytest.raises(FeedError, match=rf"{path}: '(items|states)' gives null where a list belongs"):
        pull(pair_config(server.url)).poll()
    server.routes[path] = lambda _: reply({"items": [], "states": []})
    with pytest.raises(FeedError, match="an empty list is never taken for the truth"):
        pull(pair_config(server.url)).poll()


def test_descriptions_are_asked_for_as_seldom_as_the_file_says(server: ScriptedServer) -> None:
    serve(server, ports(2, None))
    serve(server, [state("P1"), state("P2")], STATUSES, "states")
    clock = [0.0]
    feed = pull(pair_config(server.url, every_seconds=600), lambda: clock[0])
    for clock[0] in (0.0, 60.0, 599.0, 600.0, 660.0):
        feed.poll()
    assert (len(server.asked(ASSETS)), len(server.asked(STATUSES))) == (2, 5)
    feed.forget()
    feed.poll()
    assert len(server.asked(ASSETS)) == 3


def test_a_new_evse_among_the_statuses_asks_for_the_descriptions_at_once_but_only_once(server: ScriptedServer) -> None:
    serve(server, ports(2, None))
    serve(server, [state("P1"), state("P2")], STATUSES, "states")
    feed = pull(pair_config(server.url, every_seconds=600))
    feed.poll()
    serve(server, ports(3, None))
    serve(server, [state("P1"), state("P2"), state("P3"), state("P9")], STATUSES, "states")
    poll = feed.poll()
    assert (words(poll), [r.record_ref for r in poll.rejected]) == (all_free(3), ["P9"])
    serve(server, [state("P1", "busy"), state("P2"), state("P3"), state("P9")], STATUSES, "states")
    feed.poll()
    assert len(server.asked(ASSETS)) == 2


@pytest.mark.parametrize("answer", [Reply(HTML), reply({"items": []}), reply({"items": None}), Reply(b"", 503)])
def test_when_descriptions_fail_those_of_the_last_time_serve_on_and_that_is_logged(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, answer: Reply
) -> None:
    serve(server, ports(2, None))
    serve(server, [state("P1"), state("P2")], STATUSES, "states")
    feed = pull(pair_config(server.url))
    feed.poll()
    server.routes[ASSETS] = lambda _: answer
    serve(server, [state("P1", "busy"), state("P2")], STATUSES, "states")
    with caplog.at_level(logging.WARNING):
        assert words(feed.poll()) == {"s1/p1": "busy", "s1/p2": "free"}
    assert "the descriptions of the last time serve on: GET" in caplog.text
    server.routes[STATUSES] = lambda _: Reply(HTML)
    with pytest.raises(FeedError, match=STATUSES):
        feed.poll()
