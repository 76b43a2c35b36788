"""What real feeds send, as bodies in their own spelling: good objects go in as they were told, bad ones are quarantined alone.

Faults of paging, of the envelope and of the connection are in ``test_ocpi_pull`` and ``test_ingestion_http``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_server import LOCATIONS, OcpiScript, Reply, ScriptedServer, location, pull_config

from ingestion import http
from ingestion.http import HttpTransport
from ingestion.model import FeedError, Poll
from ingestion.ocpi.pull import OcpiPull

Read = Callable[..., Poll]


@pytest.fixture
def read(server: ScriptedServer) -> Iterator[Read]:
    """Poll a sender whose only page is the body given."""
    made: list[OcpiPull] = []

    def make(body: str | bytes, headers: dict[str, str] | None = None, **settings: Any) -> Poll:
        OcpiScript([], version=settings.get("version", "2.2.1")).mount(server)
        body = body.encode() if isinstance(body, str) else body
        answer = Reply(body, 200, {"Content-Type": "application/json", "X-Total-Count": "1"} | (headers or {}))
        server.routes[LOCATIONS.replace("2.2.1", settings.get("version", "2.2.1"))] = lambda _: answer
        config = pull_config(server.url, **settings)
        made.append(OcpiPull(config, f"{server.url}/ocpi/versions", "token", HttpTransport(backoff_seconds=0)))
        return made[-1].poll()

    yield make
    for feed in made:
        feed.close()


def envelope_of(text: str) -> str:
    return f'{{"data":[{text}],"status_code":1000,"timestamp":"2026-10-05T00:00:00Z"}}'


def site(*ports: str, more: str = "", evses: str = "") -> str:
    """A Location around EVSEs, both as text."""
    evses = evses or f"[{','.join(ports)}]"
    return envelope_of(
        '{"country_code":"AU","party_id":"ABC","id":"S1","publish":true,"address":"1 Invented Road","city":"Bourke",'
        f'"country":"AUS",{more}"coordinates":{{"latitude":"-30.0888","longitude":"145.9378"}},"time_zone":"Australia/Sydney",'
        f'"evses":{evses},"last_updated":"2026-10-05T00:00:00Z"}}'
    )


def port(uid: str = '"E1"', connector: str = "", more: str = "") -> str:
    """An EVSE as text."""
    connector = connector or '"standard":"IEC_62196_T2","power_type":"AC_3_PHASE","max_voltage":230,"max_amperage":32'
    return f'{{"uid":{uid},"status":"AVAILABLE",{more}"connectors":[{{"id":"1",{connector}}}]}}'


def words(poll: Poll) -> dict[str, str]:
    return {ref: word for ref, (word, _) in poll.statuses.items()}


def notes(poll: Poll) -> list[tuple[str, str | None]]:
    return [(one.record_ref, one.field) for one in poll.rejected]


def kilowatts(poll: Poll) -> list[str | None]:
    return [None if asset.power_kw is None else str(asset.power_kw) for asset in poll.assets]


def test_null_where_a_list_belongs_is_no_list(read: Read) -> None:
    poll = read(
        site(port(more='"capabilities":null,"directions":null,'), more='"related_locations":null,"images":null,')
    )
    assert (words(poll), notes(poll)) == ({"s1/e1": "AVAILABLE"}, [])
    assert read(site(evses="null")).statuses == {}
    poll = read(site('{"uid":"E1","status":"AVAILABLE","connectors":null}', port('"E2"')))
    assert (list(words(poll)), notes(poll)) == (["s1/e2"], [("S1/E1", "evses[0].connectors")])


def test_numeric_ids_are_ids(read: Read) -> None:
    poll = read(site(port("12032").replace('"id":"1"', '"id":650307')).replace('"id":"S1"', '"id":258'))
    (asset,) = poll.assets
    assert (asset.evse_ref, asset.evse_id, asset.connector_ref, notes(poll)) == ("258/12032", "12032", "650307", [])


def test_words_that_no_version_knows_are_kept(read: Read) -> None:
    text = '"standard":"NACS_V5","format":"WIRELESS","power_type":"AC_9_PHASE","max_voltage":230,"max_amperage":32'
    poll = read(site(port(connector=text).replace("AVAILABLE", "HIBERNATING"), more='"parking_type":"ON_THE_MOON",'))
    (asset,) = poll.assets
    assert (words(poll), notes(poll)) == ({"s1/e1": "HIBERNATING"}, [])
    assert (asset.connector_standard, asset.power_kw) == ("NACS_V5", None)
    assert asset.attributes["parking_type"] == "ON_THE_MOON"
    assert asset.attributes["power_type"] == "AC_9_PHASE"


def test_voltage_and_amperage_in_2_3_0_are_what_2_1_1_called_so(read: Read) -> None:
    text = '"power_type":"AC_3_PHASE","voltage":230,"amperage":"32"'
    assert kilowatts(read(site(port(connector=text)), version="2.3.0")) == ["22.080"]


@pytest.mark.parametrize(
    ("sent", "stored", "attribute"),
    [
        ("22", "0.022", 22.0),
        ("3.7", "0.004", 3.7),
        ("0.1", None, 0.1),
        ("22000", "22.000", 22000.0),
        ("22000000", "22000.000", 22_000_000.0),
        ("350000000", "350000.000", 350_000_000.0),
        ('"7400"', "7.400", 7400.0),
    ],
)
def test_a_power_in_the_wrong_unit_is_stored_as_it_was_told(
    read: Read, sent: str, stored: str | None, attribute: float
) -> None:
    poll = read(site(port(connector='"power_type":"DC","max_electric_power":' + sent)))
    assert (kilowatts(poll), notes(poll)) == ([stored], [])
    assert poll.assets[0].attributes["max_electric_power"] == attribute


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [("0", "0"), ("0.0", "0.0"), ("3.72", "51.04"), ("-90", "180"), (" -30.0888 ", "145.9378")],
)
def test_coordinates_in_range_are_stored_as_they_were_told(read: Read, latitude: str, longitude: str) -> None:
    body = site(port()).replace("-30.0888", latitude).replace("145.9378", longitude)
    poll = read(body)
    (asset,) = poll.assets
    assert (asset.latitude, asset.longitude, notes(poll)) == (float(latitude), float(longitude), [])


def test_swapped_coordinates_out_of_range_are_noted_as_they_were_told(read: Read) -> None:
    body = site(port()).replace('"-30.0888"', '"145.9378"').replace('"longitude":"145.9378"', '"longitude":"-30.0888"')
    poll = read(body)
    assert (words(poll), notes(poll)) == ({"s1/e1": "AVAILABLE"}, [("S1", "coordinates.latitude")])
    assert json.loads(poll.rejected[0].payload) == {"latitude": "145.9378", "longitude": "-30.0888"}


def test_naive_times_beside_utc_ones_and_nanoseconds_are_read_each_for_itself(read: Read) -> None:
    times = {
        "E1": "2026-10-05T10:00:00",
        "E2": "2026-10-05T00:00:00Z",
        "E3": "2026-10-05T00:00:00.123456789Z",
        "E4": "2026-10-05T10:00:00+10:00",
        "E5": " 2026-10-05T00:00:00Z ",
        "E6": "2026-10-05 00:00:00Z",
        "E7": "5/10/2026",
    }
    ports = [port(f'"{uid}"', more=f'"last_updated":"{text}",') for uid, text in times.items()]
    poll = read(site(*ports), naive_time_zone="Australia/Brisbane")
    assert [moment and moment.isoformat() for _, moment in poll.statuses.values()] == [
        "2026-10-05T00:00:00+00:00",
        "2026-10-05T00:00:00+00:00",
        "2026-10-05T00:00:00.123456+00:00",
        "2026-10-05T00:00:00+00:00",
        "2026-10-05T00:00:00+00:00",
        "2026-10-05T00:00:00+00:00",
        None,
    ]
    assert notes(poll) == [("S1/E7", "evses[6].last_updated")]


def test_blanks_around_texts_are_no_part_of_them(read: Read) -> None:
    body = site(port('" E1  "')).replace('"AVAILABLE"', '"AVAILABLE "').replace('"Bourke"', '"Bourke \\t"')
    poll = read(body.replace('"ABC"', '"abc "').replace('"Australia/Sydney"', '"Australia/Sydney "'))
    (asset,) = poll.assets
    assert (words(poll), asset.suburb, asset.time_zone, notes(poll)) == (
        {"s1/e1": "AVAILABLE"}, "Bourke", "Australia/Sydney", [],
    )  # fmt: skip


def test_the_same_evse_twice_counts_once_and_the_second_is_kept(read: Read) -> None:
    poll = read(site(port(), port(' "e1" ').replace("AVAILABLE", "CHARGING")))
    assert (words(poll), notes(poll)) == ({"s1/e1": "AVAILABLE"}, [("S1/e1", "evses[1].uid")])


@pytest.mark.parametrize("evse_id", ["null", '""', '"AU*ABC*E1"'])
def test_evse_ids_that_are_absent_or_repeated_identify_nothing(read: Read, evse_id: str) -> None:
    more = f'"evse_id":{evse_id},'
    poll = read(site(port(more=more), port('"E2"', more=more)))
    assert (list(words(poll)), notes(poll)) == (["s1/e1", "s1/e2"], [])
    assert {asset.emi3_id for asset in poll.assets} == {json.loads(evse_id) or None}


def test_of_a_key_that_stands_twice_the_last_counts(read: Read) -> None:
    poll = read(site(port(more='"status":"CHARGING",')))
    assert words(poll) == {"s1/e1": "CHARGING"}


def test_an_evse_nested_too_deep_costs_the_answer_and_says_so(read: Read) -> None:
    bomb = '"images":' + '{"a":[' * 50_000 + "1" + "]}" * 50_000 + ","
    with pytest.raises(FeedError, match="the body is nested deeper than 64 levels"):
        read(site(port(more=bomb)))


def test_brackets_within_texts_are_no_nesting(read: Read) -> None:
    text = r'"physical_reference":"' + r"\\\"[{" * 1000 + '",'
    assert list(words(read(site(port(more=text))))) == ["s1/e1"]


@pytest.mark.parametrize("content_type", ["text/html; charset=iso-8859-1", "application/octet-stream", ""])
def test_the_content_type_is_not_asked(read: Read, content_type: str) -> None:
    poll = read(site(port(), more='"name":"Café Bourke",'), {"Content-Type": content_type})
    assert poll.assets[0].site_name == "Café Bourke"


def test_html_with_http_200_is_an_error_that_says_so(read: Read) -> None:
    with pytest.raises(FeedError, match=r"the body is HTML or XML, not JSON \(32 bytes\)"):
        read("<html>Please log in again</html>", {"Content-Type": "application/json"})


@pytest.mark.parametrize("cut", [1, 100, 300])
def test_json_cut_short_is_an_error(read: Read, cut: int) -> None:
    with pytest.raises(FeedError, match="the body is not JSON, or cut short"):
        read(site(port())[:-cut])


def test_a_packed_body_is_unpacked_and_a_cut_one_is_an_error(read: Read) -> None:
    packed = gzip.compress(site(port()).encode())
    assert list(words(read(packed, {"Content-Encoding": "gzip"}))) == ["s1/e1"]
    with pytest.raises(FeedError, match=r"broke off or could not be unpacked|not JSON, or cut short"):
        read(packed[:-30], {"Content-Encoding": "gzip"})


def large_body(size: int) -> bytes:
    """One good Location among pictures of it."""
    item = location("L1", images=["x" * 100_000] * (size // 100_000))
    return json.dumps({"data": [item], "status_code": 1000}).encode()


def test_a_body_of_50_mb_is_read_and_one_beyond_the_limit_is_an_error_that_names_it(read: Read) -> None:
    body = large_body(50_000_000)
    assert len(body) > 50_000_000
    assert list(words(read(body))) == ["l1/l1-1"]
    with pytest.raises(FeedError, match=f"the body is longer than the limit of {http.MAX_BODY_BYTES} bytes"):
        read(large_body(68_000_000))


def test_a_sender_that_wants_to_be_left_alone_for_long_is_a_failure_within_seconds(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_RETRY_AFTER_SECONDS", 0.01)
    OcpiScript([location("L1")]).mount(server)
    server.routes[LOCATIONS] = lambda _: Reply(b"", 429, {"Retry-After": "86400"})
    feed = OcpiPull(pull_config(server.url), f"{server.url}/ocpi/versions", "token", HttpTransport(backoff_seconds=0))
    with pytest.raises(FeedError, match="HTTP 429"):
        feed.poll()
    feed.close()
    assert len(server.asked(LOCATIONS)) == 1 + http.MAX_RETRIES
