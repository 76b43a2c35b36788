"""From a CPO's own JSON to assets and statuses: what is read, what is left out and noted, what is rejected alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingestion.config import CpoConfig
from ingestion.mapping import (
    NoListError,
    Statuses,
    join,
    records,
    refs_by_id,
    resolve,
    retranslate,
    translate,
    translate_statuses,
)
from ingestion.mapping_settings import Mapping, StatusMapping
from ingestion.model import Asset, Rejected, Translated
from ingestion.settings import FeedSettings
from ingestion.values import parse_json

SYDNEY = {"lat": -33.87, "lon": 151.21}

NESTED: dict[str, Any] = {
    "sites": "sites",
    "site": {"site_id": "id", "site_name": "name", "latitude": "lat", "longitude": "lon", "time_zone": "zone"},
    "evses": "ports",
    "evse": {"evse_id": "id", "status": "state", "updated_at": "since", "charger_id": "_site.charger"},
    "connectors": "plugs",
    "connector": {"connector_id": "id", "connector_standard": "type", "power": {"path": "kw", "unit": "kW"}},
}
FLAT: dict[str, Any] = {
    "site": {"site_id": "place", "latitude": "lat", "longitude": "lon"},
    "evse": {"evse_id": "id", "status": "state"},
}


def feed(**more: Any) -> FeedSettings:
    return FeedSettings.model_validate({"status_profile": "history", "liveness_seconds": 300, **more})


def plug(**more: Any) -> dict[str, Any]:
    return {"id": 1, "type": "CCS", "kw": 50, **more}


def port(port_id: object = "P1", /, **more: Any) -> dict[str, Any]:
    return {"id": port_id, "state": "free", "plugs": [plug()], **more}


def site(site_id: object = "S1", /, **more: Any) -> dict[str, Any]:
    return {"id": site_id, "name": "Town Hall", **SYDNEY, "ports": [port()], **more}


def read(*sites: object, change: Callable[[dict[str, Any]], None] | None = None, **settings: Any) -> Translated:
    mapping = json.loads(json.dumps(NESTED))
    if change:
        change(mapping)
    return translate({"sites": list(sites)}, Mapping.model_validate(mapping), feed(**settings), "/list")


def read_flat(*rows: object, **more: dict[str, Any]) -> Translated:
    mapping = {**FLAT, **{name: {**FLAT.get(name, {}), **value} for name, value in more.items()}}
    return translate(list(rows), Mapping.model_validate(mapping), feed(), "/rows")


def row(evse_id: object = "E1", /, **more: Any) -> dict[str, Any]:
    return {"place": "S1", "id": evse_id, "state": "free", **SYDNEY, **more}


def only(made: Translated) -> Asset:
    assert len(made.assets) == 1, made
    return made.assets[0]


def complaints(made: Translated) -> list[tuple[str, str | None, str]]:
    return [(one.record_ref, one.field, one.reason) for one in made.rejected]


def test_three_levels_make_one_asset_per_connector_and_one_status_per_evse() -> None:
    made = read(site(ports=[port(plugs=[plug(), plug(id=2, type=" AC ", kw="22.0")]), port("P2", state="busy")]))
    assert [(a.evse_ref, a.connector_ref, a.connector_standard, a.power_kw) for a in made.assets] == [
        ("s1/p1", "1", "CCS", Decimal("50.000")),
        ("s1/p1", "2", "AC", Decimal("22.000")),
        ("s1/p2", "1", "CCS", Decimal("50.000")),
    ]
    assert made.statuses == {"s1/p1": ("free", None), "s1/p2": ("busy", None)}
    assert (made.rejected, made.evse_count) == ((), 2)
    assert {a.time_zone for a in made.assets} == {"Australia/Sydney"}


def test_an_object_of_an_inner_list_sees_the_ones_around_it() -> None:
    made = read(
        site(charger=7, ports=[port(plugs=[plug()], bay="B")]),
        change=lambda mapping: mapping.update(attributes={"bay": "_evse.bay", "site": "_site.name"}),
    )
    assert (only(made).charger_id, only(made).charger_ref) == ("7", "s1/7")
    assert only(made).attributes == {"bay": "B", "site": "Town Hall"}


def test_a_flat_record_is_site_evse_and_connector_at_once() -> None:
    made = read_flat(row(), row("E2", state="busy"))
    assert [(a.site_ref, a.charger_id, a.evse_ref, a.connector_id) for a in made.assets] == [
        ("s1", "E1", "s1/e1", "1"),
        ("s1", "E2", "s1/e2", "1"),
    ]
    assert made.statuses == {"s1/e1": ("free", None), "s1/e2": ("busy", None)}


def test_flat_records_may_tell_of_an_evse_connector_by_connector() -> None:
    made = read_flat(row(plug="a"), row(plug="b"), connector={"connector_id": "plug"})
    assert [(a.evse_ref, a.connector_ref) for a in made.assets] == [("s1/e1", "a"), ("s1/e1", "b")]
    assert (made.statuses, made.rejected, made.evse_count) == ({"s1/e1": ("free", None)}, (), 1)


def test_the_same_record_twice_is_one() -> None:
    made = read_flat(row(), row())
    assert (len(made.assets), made.rejected, made.evse_count) == (1, (), 1)


def test_an_evse_told_twice_and_differently_keeps_the_first_and_rejects_the_second() -> None:
    made = read_flat(row(), row("e1", state="busy"))
    assert made.statuses == {"s1/e1": ("free", None)}
    assert complaints(made) == [("S1/e1", "evse.evse_id (id)", "repeated in the same answer, and differently")]
    assert json.loads(made.rejected[0].payload)["state"] == "busy"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("S 1 ", "S 1"), (12, "12"), (12.0, "12"), (1.5, "1.5")],
)
def test_ids_may_be_numbers_and_lose_their_blanks(sent: object, kept: str) -> None:
    assert only(read(site(sent))).site_id == kept


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (None, "gives nothing"),
        ("  ", "gives nothing"),
        (math.nan, "gives nothing"),
        (["S1"], "gives a list where one text belongs"),
        ({"a": 1}, "gives an object where one text belongs"),
        (True, "gives a boolean where one text belongs"),
        ("x" * 256, "has 256 characters, more than 255"),
    ],
)
def test_a_site_without_an_id_is_rejected_alone_and_names_field_and_expression(sent: object, reason: str) -> None:
    made = read(site(sent), site("S2"))
    assert [a.site_id for a in made.assets] == ["S2"]
    assert [(field, said) for _, field, said in complaints(made)] == [("site.site_id (id)", reason)]
    assert made.rejected[0].source == "/list"
    assert json.loads(made.rejected[0].context or "") == {"level": "site"}
    assert made.evse_count == 2


@pytest.mark.parametrize("raw", [None, 7, "text", [], [[]], True])
def test_what_is_no_object_is_rejected_at_every_level(raw: object) -> None:
    good = port("P2", plugs=[raw, plug()])
    made = read(raw, site(ports=[raw, good]))
    assert [(a.evse_id, a.connector_id) for a in made.assets] == [("P2", "1")]
    assert [one.record_ref for one in made.rejected] == ["#0", "S1/#0", "S1/P2/#0"]
    assert all(one.reason.endswith("where an object belongs") for one in made.rejected)
    assert [json.loads(one.payload) for one in made.rejected] == [raw] * 3


@pytest.mark.parametrize("ports", [None, {}, "none", 3])
def test_a_site_without_its_list_is_rejected_and_says_what_stands_there(ports: object) -> None:
    made = read(site(ports=ports), site("S2"))
    assert [a.site_id for a in made.assets] == ["S2"]
    [(ref, field, reason)] = complaints(made)
    assert (ref, field) == ("S1", "evses (ports)")
    assert reason.startswith("'ports' gives ")
    assert reason.endswith("where a list belongs")


def test_an_evse_without_connectors_is_rejected() -> None:
    made = read(site(ports=[port(plugs=[]), port("P2", plugs=None), port("P3", plugs=[plug(id=None)]), port("P4")]))
    assert [a.evse_id for a in made.assets] == ["P4"]
    assert complaints(made) == [
        ("S1/P1", "connectors (plugs)", "no connector that can be read"),
        ("S1/P2", "connectors (plugs)", "'plugs' gives null where a list belongs"),
        ("S1/P3/#0", "connector.connector_id (id)", "gives nothing"),
        ("S1/P3", "connectors (plugs)", "no connector that can be read"),
    ]


@pytest.mark.parametrize(
    ("state", "said"),
    [(None, "gives nothing"), ("", "gives nothing"), (["free"], "gives a list where one text belongs")],
)
def test_an_evse_without_a_status_is_described_and_absent_from_the_statuses(state: object, said: str) -> None:
    made = read(site(ports=[port(state=state), port("P2")]))
    assert [a.evse_id for a in made.assets] == ["P1", "P2"]
    assert made.statuses == {"s1/p2": ("free", None)}
    assert complaints(made) == [("S1/P1", "evse.status (state)", f"described without a status: {said}")]


@pytest.mark.parametrize(("state", "word"), [(True, "true"), (False, "false"), (3, "3"), (" Free ", "Free")])
def test_a_status_word_may_be_a_number_or_a_boolean(state: object, word: str) -> None:
    assert read(site(ports=[port(state=state)])).statuses == {"s1/p1": (word, None)}


@pytest.mark.parametrize(
    ("sent", "zone", "told"),
    [
        ("2026-10-01T10:00:00Z", "UTC", datetime(2026, 10, 1, 10, tzinfo=UTC)),
        ("2026-10-01T10:00:00+10:00", "UTC", datetime(2026, 10, 1, tzinfo=UTC)),
        ("2026-10-01T10:00:00.123456789", "Australia/Sydney", datetime(2026, 10, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("2026-10-05 10:00:00", "Australia/Sydney", datetime(2026, 10, 4, 23, tzinfo=UTC)),
    ],
)
def test_a_time_is_iso_8601_and_a_naive_one_is_read_in_the_feeds_zone(sent: str, zone: str, told: datetime) -> None:
    made = read(site(ports=[port(since=sent)]), naive_time_zone=zone)
    assert made.statuses == {"s1/p1": ("free", told)}


@pytest.mark.parametrize("unit", ["seconds", "milliseconds"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_time_may_be_a_number_when_its_unit_is_said(unit: str, as_text: bool) -> None:
    number = 1_790_812_800 * (1 if unit == "seconds" else 1000)
    made = read(
        site(ports=[port(since=str(number) if as_text else number)]),
        change=lambda mapping: mapping["evse"].update(updated_at={"path": "since", "unit": unit}),
    )
    assert made.statuses == {"s1/p1": ("free", datetime(2026, 10, 1, tzinfo=UTC))}


@pytest.mark.parametrize("sent", ["yesterday", 1_790_812_800, "01.10.2026 10:00", {}, "9999-12-31T23:59:59-14:00"])
def test_a_time_that_cannot_be_read_is_noted_and_the_status_kept(sent: object) -> None:
    made = read(site(ports=[port(since=sent)]))
    assert made.statuses == {"s1/p1": ("free", None)}
    [(ref, field, reason)] = complaints(made)
    assert (ref, field) == ("S1/P1", "evse.updated_at (since)")
    assert reason.startswith("kept without this field: ")
    assert (made.rejected[0].context, json.loads(made.rejected[0].payload)) == (None, sent)


@pytest.mark.parametrize(
    ("sent", "unit", "power"),
    [
        (22, "kW", "22.000"),
        ("22.0", "kW", "22.000"),
        (" 7.36 ", "kW", "7.360"),
        (22080, "W", "22.080"),
        ("11000", "W", "11.000"),
        (0, "kW", None),
        (None, "kW", None),
        (math.nan, "kW", None),
    ],
)
def test_power_is_in_kilowatts_whatever_the_unit(sent: object, unit: str, power: str | None) -> None:
    made = read(
        site(ports=[port(plugs=[plug(kw=sent)])]),
        change=lambda mapping: mapping["connector"]["power"].update(unit=unit),
    )
    assert only(made).power_kw == (None if power is None else Decimal(power))
    assert made.rejected == ()


@pytest.mark.parametrize("sent", ["22,0", "22 kW", "lots", True, [22], "1e3", math.inf, 10**400])
def test_a_power_that_is_no_number_is_noted_and_the_connector_kept(sent: object) -> None:
    made = read(site(ports=[port(plugs=[plug(kw=sent)])]))
    assert only(made).power_kw is None
    assert [(ref, field) for ref, field, _ in complaints(made)] == [("S1/P1/1", "connector.power (kw)")]


def test_a_power_beyond_any_charger_is_not_stored() -> None:
    made = read(site(ports=[port(plugs=[plug(kw=22_000_000)])]))
    assert only(made).power_kw is None
    assert complaints(made) == [("S1/P1/1", "connector.power", "kept without power: 22000000 kW cannot be")]


@pytest.mark.parametrize(
    ("volts", "amperes", "power_type", "stated", "power"),
    [
        (230, 32, "AC_3_PHASE", None, "22.080"),
        ("230", "16", "ac_1_phase", None, "3.680"),
        (400, 125, "DC", None, "50.000"),
        # Line to line: the stated power is right.
        ("400", "32", "AC_3_PHASE", 22, "22.000"),
        (230, 32, "AC", None, None),
        (0, 32, "DC", None, None),
    ],
)
def test_power_is_as_stated_else_volts_times_amperes_by_power_type(
    volts: object, amperes: object, power_type: str, stated: object, power: str | None
) -> None:
    more = {"volts": "v", "amperes": "a", "power_type": "t"}
    made = read(
        site(ports=[port(plugs=[plug(kw=stated, v=volts, a=amperes, t=power_type)])]),
        change=lambda mapping: mapping["connector"].update(more),
    )
    assert only(made).power_kw == (None if power is None else Decimal(power))


@pytest.mark.parametrize(
    ("sent", "order", "place"),
    [
        ("46.459309 9.795548", "lat lon", (46.459309, 9.795548)),
        ("46.459309, 9.795548", "lat lon", (46.459309, 9.795548)),
        (" 9.795548;46.459309 ", "lon lat", (46.459309, 9.795548)),
        ([9.795548, 46.459309], "lon lat", (46.459309, 9.795548)),
        (["46.459309", "9.795548"], "lat lon", (46.459309, 9.795548)),
    ],
)
def test_coordinates_may_stand_in_one_value(sent: object, order: str, place: tuple[float, float]) -> None:
    mapping = {"site": {"site_id": "place", "coordinates": {"path": "at", "order": order}}, "evse": FLAT["evse"]}
    made = translate([row(at=sent)], Mapping.model_validate(mapping), feed(), "/rows")
    assert (only(made).latitude, only(made).longitude) == place
    assert only(made).time_zone == "Europe/Zurich"


@pytest.mark.parametrize("sent", ["None None", "46.4", [1], [1, 2, 3], ["a", "b"], {"x": 1}, "91 9", 7, [None, None]])
def test_coordinates_that_cannot_be_read_are_noted_and_the_feeds_zone_is_used(sent: object) -> None:
    mapping = {"site": {"site_id": "place", "coordinates": {"path": "at", "order": "lat lon"}}, "evse": FLAT["evse"]}
    made = translate([row(at=sent)], Mapping.model_validate(mapping), feed(time_zone="Australia/Perth"), "/rows")
    assert (only(made).latitude, only(made).longitude, only(made).time_zone) == (None, None, "Australia/Perth")
    assert complaints(made) == [("S1", "site.coordinates (at)", "kept without coordinates: not two numbers in range")]


def test_one_coordinate_without_the_other_is_noted() -> None:
    made = read(site(lat=None, lon=0.0), time_zone="Australia/Perth")
    assert (only(made).latitude, only(made).longitude) == (None, None)
    assert [field for _, field, _ in complaints(made)] == ["site.latitude, longitude (lat, lon)"]


def test_swapped_coordinates_in_range_stay_as_sent() -> None:
    made = read(site(lat=9.79, lon=46.45))
    assert (only(made).latitude, only(made).longitude, made.rejected) == (9.79, 46.45, ())


@pytest.mark.parametrize(
    ("stated", "place", "fallback", "zone", "notes"),
    [
        ("Australia/Perth", SYDNEY, "Europe/Paris", "Australia/Perth", 0),
        (None, SYDNEY, "Europe/Paris", "Australia/Sydney", 0),
        ("AEST", SYDNEY, "Europe/Paris", "Australia/Sydney", 1),
        (None, {"lat": None, "lon": None}, "Europe/Paris", "Europe/Paris", 0),
        (None, {"lat": 0, "lon": 0}, "Europe/Paris", "Europe/Paris", 0),
        ("AEST", {"lat": None, "lon": None}, "Europe/Paris", "Europe/Paris", 1),
    ],
)
def test_the_time_zone_is_the_records_own_else_that_of_the_place_else_the_feeds(
    stated: str | None, place: dict[str, Any], fallback: str, zone: str, notes: int
) -> None:
    made = read(site(zone=stated, **place), time_zone=fallback)
    assert (only(made).time_zone, len(made.rejected)) == (zone, notes)


def test_a_site_without_any_time_zone_is_rejected_with_its_evses() -> None:
    made = read(site(lat=0, lon=0, zone="AEST"), site("S2"))
    assert [a.site_id for a in made.assets] == ["S2"]
    [(ref, field, reason)] = complaints(made)
    assert (ref, field) == ("S1", "site.time_zone")
    assert reason.startswith("'AEST' is no IANA time zone")
    assert len(json.loads(made.rejected[0].payload)["ports"]) == 1


@pytest.mark.parametrize(
    ("rule", "charger"),
    [
        ({"path": "id", "before_last": "*"}, "AU*BAN*E0101"),
        ({"path": "id", "before_last": "-"}, "AU*BAN*E0101*1"),
        ({"path": "cabinet"}, "C9"),
        ("cabinet", "C9"),
        ("nowhere", "AU*BAN*E0101*1"),
        (None, "AU*BAN*E0101*1"),
    ],
)
def test_chargers_are_grouped_by_a_rule_of_the_feed(rule: object, charger: str) -> None:
    made = read_flat(row("AU*BAN*E0101*1", cabinet="C9"), evse={"charger_id": rule})
    assert only(made).charger_id == charger


def test_a_commissioning_date_is_the_sites_own() -> None:
    def commissioned(sent: object) -> date | None:
        return only(read_flat(row(since=sent), evse={"commissioned_on": "since"})).commissioned_on

    assert commissioned("2026-03-01") == date(2026, 3, 1)
    assert commissioned("2026-03-01T20:00:00Z") == date(2026, 3, 2)
    assert commissioned("March") is None


def test_an_expression_that_fails_on_a_value_costs_that_field_and_is_named() -> None:
    made = read_flat(row(parts=[1, 2]), site={"address": "join(' ', parts)"})
    assert only(made).address is None
    [(_, field, reason)] = complaints(made)
    assert field == "site.address (join(' ', parts))"
    assert reason.startswith("kept without this field: the expression fails: In function join(), invalid type")


@pytest.mark.parametrize("document", [None, 7, "x", {}, {"sites": None}, {"sites": 1}, [], {"site": []}])
def test_a_document_without_the_list_is_rejected_as_a_whole(document: object) -> None:
    made = translate(document, Mapping.model_validate(NESTED), feed(), "/list")
    assert (made.assets, made.statuses) == ((), {})
    [(ref, field, reason)] = complaints(made)
    assert (ref, field) == ("document", "sites (sites)")
    assert "where a list belongs" in reason


def test_a_single_object_stands_for_a_list_of_one() -> None:
    assert only(translate(row(), Mapping.model_validate(FLAT), feed(), "/message")).evse_id == "E1"


def test_null_where_a_list_belongs_is_no_empty_list() -> None:
    assert records({"a": []}, "a") == []
    for found, said in ((None, "null"), ({}, "an object"), (3, "a single value")):
        with pytest.raises(NoListError, match=f"^'a' gives {said} where a list belongs$"):
            records({"a": found}, "a")
    with pytest.raises(NoListError, match=r"^'a\[\]' gives null"):
        records({"a": None}, "a[]")


# --- statuses apart

STATUS = StatusMapping.model_validate({"items": "list", "evse_id": "id", "status": "state", "updated_at": "at"})


def told(*items: object) -> Statuses:
    return translate_statuses({"list": list(items)}, STATUS, feed(), "/statuses")


def described(*rows: object) -> Translated:
    mapping = Mapping.model_validate({**FLAT, "evse": {"evse_id": "id"}})
    return translate(list(rows), mapping, feed(), "/assets")


def test_statuses_are_joined_by_evse_id_in_any_case() -> None:
    made = join(
        described(row(), row("E2"), row("E3")),
        told({"id": " e1", "state": "free", "at": "2026-10-01T00:00:00Z"}, {"id": "E2", "state": "busy"}),
    )
    assert made.statuses == {"s1/e1": ("free", datetime(2026, 10, 1, tzinfo=UTC)), "s1/e2": ("busy", None)}
    assert ([a.evse_id for a in made.assets], made.rejected, made.evse_count) == (["E1", "E2", "E3"], (), 2)


def test_a_status_that_cannot_be_put_to_one_evse_is_rejected_alone() -> None:
    made = join(
        described(row(), row("E2"), row("E2", place="S2")),
        told(
            {"id": "E9", "state": "free"},
            {"id": "E2", "state": "free"},
            {"id": "E1", "state": "free"},
            {"id": "E1", "state": "free"},
            {"id": "E1", "state": "busy"},
            {"id": None, "state": "free"},
            {"id": "E1", "state": [1]},
            {"id": "E1"},
            "noise",
        ),
    )
    assert made.statuses == {"s1/e1": ("free", None)}
    assert sorted((one.source, *complaint) for one, complaint in zip(made.rejected, complaints(made), strict=True)) == [
        ("/statuses", "#5", "status.evse_id (id)", "gives nothing"),
        ("/statuses", "#8", None, "a single value where an object belongs"),
        ("/statuses", "E1", "evse_id", "repeated in the same answer, which said free before"),
        ("/statuses", "E1", "status.status (state)", "gives a list where one text belongs"),
        ("/statuses", "E1", "status.status (state)", "gives nothing"),
        ("/statuses", "E2", "evse_id", "2 EVSEs carry this id"),
        ("/statuses", "E9", "evse_id", "this EVSE is not described"),
    ]


def test_a_message_keeps_the_order_in_which_an_evse_was_told_of() -> None:
    heard = told({"id": "E1", "state": "busy"}, {"id": "e1", "state": "free"})
    found, rejected = resolve(heard, {"e1": {"s1/e1"}})
    assert [(ref, one.word) for ref, one in found] == [("s1/e1", "busy"), ("s1/e1", "free")]
    assert (rejected, json.loads(found[0][1].payload)) == ([], {"id": "E1", "state": "busy"})


@pytest.mark.parametrize("document", [None, 7, {}, [], {"list": None}, {"type": "ping"}])
def test_a_message_that_holds_no_status_gives_none(document: object) -> None:
    heard = translate_statuses(document, STATUS, feed(), "/stream")
    assert (heard.told, heard.rejected, heard.count) == ((), (), 0)


# --- read again


def config(mapping: dict[str, Any], **more: Any) -> CpoConfig:
    settings = {
        "kind": "rest_pull",
        "poll_seconds": 60,
        "liveness_seconds": 300,
        "status_profile": "history",
        "assets": {"url": "http://localhost/list"},
        "mapping": mapping,
        **more,
    }
    return CpoConfig.model_validate({"cpo_id": "abc", "name": "ABC", "feed": settings})


def again(rejected: Rejected, mapping: dict[str, Any], **more: Any) -> Translated:
    return retranslate(rejected.payload, rejected.context, config(mapping), **more)


def test_a_record_is_read_again_by_the_mapping_as_it_is_now() -> None:
    sent = site(
        ports=[port(state=None, new="busy"), port(None, name="P2"), port("P3", plugs=[plug(), plug(id=None, nr=2)])]
    )
    made = read(sent)
    assert [one.record_ref for one in made.rejected] == ["S1/P1", "S1/#1", "S1/P3/#1"]
    mended = json.loads(json.dumps(NESTED))
    mended["evse"] |= {"status": "state || new", "evse_id": "id || name"}
    mended["connector"]["connector_id"] = "id || nr"
    one, two, three = (again(rejected, mended) for rejected in made.rejected)
    assert one.statuses == {"s1/p1": ("busy", None)}
    assert (two.statuses, only(two).site_name) == ({"s1/p2": ("free", None)}, "Town Hall")
    assert (only(three).evse_ref, only(three).connector_id) == ("s1/p3", "2")
    assert "ports" not in json.loads(made.rejected[1].context or "")["site"]
    assert complaints(again(made.rejected[1], NESTED))[0][1:] == ("evse.evse_id (id)", "gives nothing")


def test_a_rejected_site_or_document_is_read_again_whole() -> None:
    made = read(site(None, nr="S9"))
    mended = {**NESTED, "site": {**NESTED["site"], "site_id": "id || nr"}}
    assert again(made.rejected[0], mended).statuses == {"s9/p1": ("free", None)}
    lost = translate({"places": [site()]}, Mapping.model_validate(NESTED), feed(), "/list").rejected[0]
    assert again(lost, {**NESTED, "sites": "places"}).statuses == {"s1/p1": ("free", None)}


def test_a_status_is_read_again_once_its_evse_is_described() -> None:
    apart = {**FLAT, "evse": {"evse_id": "id"}}
    more: dict[str, Any] = {
        "statuses": {"url": "http://localhost/s"},
        "status_mapping": {"evse_id": "id", "status": "state"},
    }
    rejected = join(described(), told({"id": "E9", "state": "free"})).rejected[0]
    asked = config(apart, **more)
    assert retranslate(rejected.payload, rejected.context, asked, {"e9": {"s1/e9"}}).statuses == {
        "s1/e9": ("free", None)
    }
    assert [one.reason for one in retranslate(rejected.payload, rejected.context, asked).rejected] == [
        "this EVSE is not described"
    ]


@pytest.mark.parametrize(
    ("payload", "context"), [("{}", None), ('{"a": ', '{"level": "site"}'), ("{}", "[]"), ("{}", "no")]
)
def test_what_cannot_be_read_again_says_so(payload: str, context: str | None) -> None:
    with pytest.raises(ValueError, match=r"was kept|cannot be read"):
        retranslate(payload, context, config(NESTED))


# --- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "ports", "plugs", "state", "kw", "lat", "lon", "zone", "since"]), inner
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=JSON, sites=st.lists(JSON, max_size=3), ports=st.lists(JSON, max_size=3))
def test_no_input_raises_and_every_evse_is_either_described_or_rejected(
    document: Any, sites: list[Any], ports: list[Any]
) -> None:
    mapping = Mapping.model_validate(
        {
            **NESTED,
            "attributes": {"n": "to_number(kw)", "l": "length(state)"},
            "site": {**NESTED["site"], "state": "ceil(kw)"},
        }
    )
    translate(document, mapping, feed(), "/list")
    translate_statuses(document, STATUS, feed(), "/list")
    made = translate({"sites": [*sites, site(ports=ports)]}, mapping, feed(), "/list")
    lost = [one for one in made.rejected if one.context]
    described_refs = {a.evse_ref for a in made.assets}
    assert set(made.statuses) <= described_refs
    if made.evse_count > len(described_refs):
        assert lost
    for one in lost:
        retranslate(one.payload, one.context, config(NESTED))


def test_an_answer_in_json_may_hold_what_is_no_json_number() -> None:
    made = translate(
        parse_json(b'{"sites": [{"id": "S1", "lat": NaN, "lon": 1e400, "ports": []}]}'),
        Mapping.model_validate(NESTED),
        feed(time_zone="Australia/Perth"),
        "/list",
    )
    assert [one.field for one in made.rejected] == ["site.latitude, longitude (lat, lon)"]


def test_what_no_database_can_hold_is_replaced_or_noted() -> None:
    made = read(
        site(name="a\x00b", ports=[port(plugs=[plug(good={"a": [1]}, wild=[math.inf], odd="\ud800")])]),
        change=lambda mapping: mapping.update(attributes={"good": "good", "wild": "wild", "odd": "odd"}),
    )
    assert (only(made).site_name, only(made).attributes) == ("a\ufffdb", {"good": {"a": [1]}, "odd": "\ufffd"})
    assert [field for _, field, _ in complaints(made)] == ["connector.wild (wild)"]


def test_a_mapping_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValidationError, match=r"'id\[' is not a JMESPath expression: "):
        Mapping.model_validate({"site": {"site_id": "id["}, "evse": {"evse_id": "id"}})
    with pytest.raises(ValidationError, match="name latitude and longitude, or coordinates, or none"):
        Mapping.model_validate({"site": {"site_id": "id", "latitude": "lat"}, "evse": {"evse_id": "id"}})
    assert refs_by_id([]) == {}
