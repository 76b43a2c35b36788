from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import connector, evse, location, pull_config

from ingestion.config import OcpiPullFeed
from ingestion.model import Asset, Rejected
from ingestion.ocpi.models import Connector
from ingestion.ocpi.translate import Translated, connector_power_kw, translate_locations
from ingestion.values import MAX_PAYLOAD_BYTES, parse_json, parse_timestamp, payload_text

SOURCE = "/ocpi/cpo/2.2.1/locations"


def feed(**more: Any) -> OcpiPullFeed:
    made = pull_config(**more).feed
    assert isinstance(made, OcpiPullFeed)
    return made


def translate(*items: object, **settings: Any) -> Translated:
    return translate_locations(items, feed(**settings), SOURCE)


def places(translated: Translated) -> list[tuple[str, str | None, str]]:
    return [(one.record_ref, one.field, one.reason) for one in translated.rejected]


def test_a_whole_location_becomes_one_asset_per_connector_and_one_status_per_evse() -> None:
    item = location(
        " Loc1 ",
        operator={"name": "Invented Power "},
        parking_type="ON_STREET",
        evses=[
            evse(
                "E1",
                evse_id="AU*ABC*E1*1",
                physical_reference="A",
                floor_level="-1",
                connectors=[connector("1"), connector("2", standard="CHADEMO", power_type="DC")],
                last_updated="2026-02-03T04:05:06Z",
            )
        ],
    )
    made = translate(item)
    assert made.rejected == ()
    assert made.statuses == {"loc1/e1": ("AVAILABLE", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))}
    first, second = made.assets
    assert first == Asset(
        site_ref="loc1",
        site_id="Loc1",
        charger_ref="loc1/e1",
        charger_id="E1",
        evse_ref="loc1/e1",
        evse_id="E1",
        connector_ref="1",
        connector_id="1",
        time_zone="Australia/Broken_Hill",
        site_name="Site  Loc1",
        address="1 Invented Road",
        suburb="Broken Hill",
        postcode="2880",
        state="NSW",
        country="AUS",
        latitude=-31.9505,
        longitude=141.4533,
        emi3_id="AU*ABC*E1*1",
        connector_standard="IEC_62196_T2",
        power_kw=Decimal("11.040"),
        attributes={
            "operator_name": "Invented Power",
            "party": "AU*ABC",
            "parking_type": "ON_STREET",
            "publish": True,
            "floor_level": "-1",
            "physical_reference": "A",
            "connector_format": "SOCKET",
            "power_type": "AC_3_PHASE",
        },
    )
    assert (second.connector_id, second.connector_standard, second.power_kw) == (
        "2",
        "CHADEMO",
        Decimal("3.680"),
    )


def test_what_moves_with_every_status_is_no_part_of_the_description() -> None:
    before = translate(location("L"))
    later = location("L", last_updated="2026-09-09T00:00:00Z")
    later["evses"][0] |= {"status": "CHARGING", "last_updated": "2026-09-09T00:00:00Z"}
    later["evses"][0]["connectors"][0]["last_updated"] = "2026-09-09T00:00:00Z"
    after = translate(later)
    assert after.assets == before.assets
    assert after.statuses != before.statuses


def test_status_words_are_kept_as_they_are_but_for_blanks() -> None:
    made = translate(location("L", evses=[evse("1", status=" Out of Order "), evse("2", status="OUTOFORDER")]))
    assert [word for word, _ in made.statuses.values()] == ["Out of Order", "OUTOFORDER"]


@pytest.mark.parametrize("status", [None, "", "  ", ["AVAILABLE"], True, "x" * 256])
def test_an_evse_without_a_readable_status_is_quarantined_alone(status: object) -> None:
    made = translate(location("L", evses=[evse("1", status=status), evse("2")]))
    assert list(made.statuses) == ["l/2"]
    assert [(ref, field) for ref, field, _ in places(made)] == [("L/1", "evses[0].status")]


def test_an_evse_without_a_status_is_quarantined_whole() -> None:
    bad = evse("1")
    del bad["status"]
    made = translate(location("L", evses=[bad]))
    assert made.assets == ()
    (rejected,) = made.rejected
    assert (rejected.source, rejected.record_ref, rejected.field) == (SOURCE, "L/1", "evses[0].status")
    assert json.loads(rejected.payload) == bad


@pytest.mark.parametrize("bad_id", [None, "", " ", {}, "x" * 256])
def test_a_location_without_an_id_does_not_hurt_its_neighbours(bad_id: object) -> None:
    made = translate(location("L1"), location("L2", id=bad_id, evses=[evse("E")]), location("L3"))
    assert list(made.statuses) == ["l1/l1-1", "l3/l3-1"]
    (rejected,) = made.rejected
    assert rejected.field == "id"
    assert json.loads(rejected.payload)["name"] == "Site L2"


@pytest.mark.parametrize("item", [None, 5, "x", []])
def test_what_is_no_object_is_quarantined_alone(item: object) -> None:
    made = translate(item, location("L", evses=[item, evse("1", connectors=[item, connector()])]))
    assert list(made.statuses) == ["l/1"]
    assert places(made) == [
        ("#0", None, "not an object"),
        ("L/#0", "evses[0]", "not an object"),
        ("L/1/#0", "evses[1].connectors[0]", "not an object"),
    ]


def test_a_bad_connector_does_not_hurt_an_evse_with_a_good_one() -> None:
    made = translate(location("LOC1", evses=[evse("3256", connectors=[connector(id=None), connector("2")])]))
    assert [asset.connector_id for asset in made.assets] == ["2"]
    assert [(ref, field) for ref, field, _ in places(made)] == [("LOC1/3256/#0", "evses[0].connectors[0].id")]


def test_an_evse_whose_connectors_are_all_bad_is_quarantined_with_the_reason() -> None:
    made = translate(location("L", evses=[evse("1", connectors=[connector(id="")]), evse("2")]))
    assert list(made.statuses) == ["l/2"]
    assert [place[:2] for place in places(made)] == [
        ("L/1/#0", "evses[0].connectors[0].id"),
        ("L/1", "evses[0].connectors"),
    ]
    assert places(made)[1][2] == "no connector that can be read"


@pytest.mark.parametrize("none", [None, []])
def test_an_evse_without_connectors_is_quarantined(none: object) -> None:
    made = translate(location("L", evses=[evse("1", connectors=none)]))
    assert made.statuses == {}
    assert places(made) == [("L/1", "evses[0].connectors", "no connector")]


@pytest.mark.parametrize("none", [None, []])
def test_a_location_without_evses_says_nothing(none: object) -> None:
    assert translate(location("L") | {"evses": none}) == Translated((), {}, ())


@pytest.mark.parametrize("wrong", ["E1", {"uid": "E1"}])
def test_evses_that_are_no_list_cost_the_location(wrong: object) -> None:
    made = translate(location("L") | {"evses": wrong}, location("M"))
    assert list(made.statuses) == ["m/m-1"]
    assert places(made) == [("L", "evses", "Input should be a valid list")]


def test_numeric_ids_become_text() -> None:
    made = translate(location(id=258, postal_code=2880, evses=[evse(uid=535, connectors=[connector(id=7)])]))
    (asset,) = made.assets
    assert (asset.site_id, asset.evse_ref, asset.connector_id, asset.postcode) == (
        "258",
        "258/535",
        "7",
        "2880",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("name", {"en": "x"}), ("publish", "perhaps"), ("operator", "ABC"), ("coordinates", "1,2")],
)
def test_an_optional_field_that_cannot_be_read_is_dropped_and_noted(name: str, value: object) -> None:
    made = translate(location("L") | {name: value})
    assert len(made.assets) == 1
    (rejected,) = made.rejected
    assert (rejected.record_ref, rejected.field) == ("L", name)
    assert rejected.reason.startswith("kept without this field")
    assert json.loads(rejected.payload) == value


def test_unknown_words_and_fields_do_no_harm() -> None:
    odd = connector(standard="HYPER_PLUG", format="WIRELESS", power_type="AC_9_PHASE", extra=1)
    made = translate(location("L", parking_type="ON_THE_MOON", novelty={}, evses=[evse("1", connectors=[odd])]))
    (asset,) = made.assets
    assert made.rejected == ()
    assert (asset.connector_standard, asset.power_kw) == ("HYPER_PLUG", None)
    assert asset.attributes["parking_type"] == "ON_THE_MOON"


# --- identity


def test_identity_ignores_case_and_blanks() -> None:
    made = translate(location(" LoC ", evses=[evse(" Ee ", connectors=[connector(" Cc ")])]))
    (asset,) = made.assets
    assert (asset.site_ref, asset.charger_ref, asset.evse_ref, asset.connector_ref) == (
        "loc",
        "loc/ee",
        "loc/ee",
        "cc",
    )
    assert (asset.site_id, asset.evse_id, asset.connector_id) == ("LoC", "Ee", "Cc")


def test_objects_of_another_party_have_it_in_their_identity() -> None:
    made = translate(
        location("L", evses=[evse("1")]),
        location("L", evses=[evse("1")], party_id="XyZ"),
        location("L", evses=[evse("2")], country_code=" au", party_id="abc "),
        location("L", evses=[evse("3")], country_code=None, party_id=None),
        location("L", evses=[evse("4", status="")], country_code="NZ"),
    )
    assert list(made.statuses) == ["l/1", "au*xyz/l/1", "l/2", "l/3"]
    other = made.assets[1]
    assert (other.site_ref, other.charger_ref, other.site_id) == ("au*xyz/l", "au*xyz/l/1", "L")
    assert [place[0] for place in places(made)] == ["NZ*ABC/L/4"]


@pytest.mark.parametrize(
    ("rule", "more", "charger_id"),
    [
        ("evse", {"physical_reference": "P1", "evse_id": "AU*ABC*E9*1"}, "U"),
        ("physical_reference", {"physical_reference": " P1 "}, "P1"),
        ("physical_reference", {"physical_reference": ""}, "U"),
        ("physical_reference", {"physical_reference": None}, "U"),
        ("physical_reference", {"physical_reference": 3}, "3"),
        ("evse_id_prefix", {"evse_id": "AU*ABC*E001L10*001"}, "AU*ABC*E001L10"),
        ("evse_id_prefix", {"evse_id": "AU*ABC*E001*L10*001"}, "AU*ABC*E001*L10"),
        ("evse_id_prefix", {"evse_id": "AUABCE001*1"}, "AUABCE001"),
        ("evse_id_prefix", {"evse_id": "AUABCE0011"}, "U"),
        ("evse_id_prefix", {"evse_id": "AU*ABC*E041503001"}, "U"),
        ("evse_id_prefix", {"evse_id": "*1"}, "U"),
        ("evse_id_prefix", {"evse_id": None}, "U"),
    ],
)
def test_chargers_are_grouped_by_the_feeds_rule(rule: str, more: dict[str, Any], charger_id: str) -> None:
    made = translate(location("L", evses=[evse("U", **more)]), charger_id=rule)
    (asset,) = made.assets
    assert (asset.charger_id, asset.charger_ref) == (charger_id, f"l/{charger_id.casefold()}")


def test_of_an_evse_told_twice_the_first_counts_and_the_second_is_quarantined() -> None:
    made = translate(
        location("L", evses=[evse("1", status="AVAILABLE"), evse(" 1", status="CHARGING")]),
        location("l", evses=[evse("1", status="BLOCKED")]),
    )
    assert {ref: word for ref, (word, _) in made.statuses.items()} == {"l/1": "AVAILABLE"}
    assert len(made.assets) == 1
    assert places(made) == [
        ("L/1", "evses[1].uid", "repeated in the same answer"),
        ("l/1", "evses[0].uid", "repeated in the same answer"),
    ]
    assert json.loads(made.rejected[0].payload)["status"] == "CHARGING"


def test_an_evse_told_twice_in_the_same_words_is_silently_one() -> None:
    assert translate(location("L"), location("L")) == translate(location("L"))


def test_the_first_readable_of_two_counts() -> None:
    made = translate(location("L", evses=[evse("1", status=None), evse("1", status="CHARGING")]))
    assert made.statuses["l/1"][0] == "CHARGING"


def test_of_a_connector_told_twice_the_first_counts() -> None:
    twice = [connector("a"), connector("A", standard="CHADEMO"), connector("a")]
    made = translate(location("L", evses=[evse("1", connectors=twice)]))
    assert [asset.connector_standard for asset in made.assets] == ["IEC_62196_T2"]
    assert places(made) == [("L/1/A", "evses[0].connectors[1].id", "repeated in the same answer")]


# --- power


@pytest.mark.parametrize(
    ("fields", "power_kw"),
    [
        ({"power_type": "AC_3_PHASE", "max_voltage": 220, "max_amperage": 16}, "10.560"),
        ({"power_type": "AC_1_PHASE", "max_voltage": 230, "max_amperage": 8}, "1.840"),
        ({"power_type": "AC_2_PHASE", "max_voltage": 230, "max_amperage": 16}, "7.360"),
        ({"power_type": "DC", "max_voltage": 500, "max_amperage": 120}, "60.000"),
        ({"power_type": " dc ", "max_voltage": "500", "max_amperage": "120 "}, "60.000"),
        ({"power_type": "AC_2_PHASE_SPLIT", "max_voltage": 240, "max_amperage": 32}, None),
        (
            {"power_type": "AC_3_PHASE", "max_voltage": 400, "max_amperage": 32, "max_electric_power": 22000},
            "22.000",
        ),
        ({"max_electric_power": 7400.5}, "7.401"),
        ({"max_electric_power": 22}, "0.022"),
        ({"power_type": "DC", "max_voltage": 400, "max_amperage": 125, "max_electric_power": 0}, "50.000"),
        ({"power_type": "DC", "max_voltage": 400, "max_amperage": 125, "max_electric_power": None}, "50.000"),
        ({"power_type": "DC", "max_voltage": 400, "max_amperage": 125, "max_electric_power": -1}, "50.000"),
        ({"power_type": "AC_1_PHASE", "voltage": 230, "amperage": 16}, "3.680"),
        ({"power_type": "AC_3_PHASE", "max_voltage": 0, "max_amperage": 16}, None),
        ({"power_type": "AC_3_PHASE", "max_voltage": -230, "max_amperage": -16}, None),
        ({"power_type": "AC_3_PHASE", "max_voltage": 230}, None),
        ({"max_voltage": 230, "max_amperage": 16}, None),
        ({"max_electric_power": 0.1}, None),
    ],
)
def test_power_is_the_stated_one_else_computed_else_unknown(fields: dict[str, object], power_kw: str | None) -> None:
    power = connector_power_kw(Connector.model_validate({"id": "1"} | fields))
    assert (None if power is None else str(power)) == power_kw


@pytest.mark.parametrize("watts", [1e9, 1e300])
def test_a_power_no_charger_has_is_noted_and_left_out(watts: float) -> None:
    made = translate(location("L", evses=[evse("1", connectors=[connector(max_electric_power=watts)])]))
    assert [asset.power_kw for asset in made.assets] == [None]
    assert [place[:2] for place in places(made)] == [("L/1/1", "evses[0].connectors[0].max_electric_power")]


@pytest.mark.parametrize("watts", ["22 kW", float("nan"), float("inf"), []])
def test_a_power_that_is_no_number_is_noted_and_computed(watts: object) -> None:
    made = translate(location("L", evses=[evse("1", connectors=[connector(max_electric_power=watts)])]))
    assert [str(asset.power_kw) for asset in made.assets] == ["11.040"]
    assert [place[:2] for place in places(made)] == [("L/1/1", "evses[0].connectors[0].max_electric_power")]


# --- place and time


@pytest.mark.parametrize(
    ("latitude", "longitude", "wrong"),
    [
        ("51.047599", "3.729944", None),
        (" -33.9 ", 151, None),
        ("-90", "180.0", None),
        ("0", "0", None),
        ("90.1", "3.7", "latitude"),
        ("51.0", "-180.5", "longitude"),
        ("151.2", "-33.9", "latitude"),
        ("51,0", "3.7", "latitude"),
        ("", "3.7", "latitude"),
        ("nan", "3.7", "latitude"),
        ("1_0", "3.7", "latitude"),
        (None, "3.7", "latitude"),
        (True, "3.7", "latitude"),
        (51.0, None, "longitude"),
        (1e400, 3.7, "latitude"),
    ],
)
def test_coordinates_are_as_sent_or_none_with_a_note(latitude: object, longitude: object, wrong: str | None) -> None:
    sent = {"latitude": latitude, "longitude": longitude}
    made = translate(location("L", coordinates=sent))
    (asset,) = made.assets
    if wrong is None:
        assert (asset.latitude, asset.longitude) == (float(str(latitude)), float(str(longitude)))
        assert made.rejected == ()
    else:
        assert (asset.latitude, asset.longitude) == (None, None)
        assert places(made) == [("L", f"coordinates.{wrong}", "kept without coordinates: not a number in range")]


def test_swapped_coordinates_stay_swapped() -> None:
    (asset,) = translate(location("L", coordinates={"latitude": "3.72", "longitude": "51.04"})).assets
    assert (asset.latitude, asset.longitude) == (3.72, 51.04)


def test_absent_coordinates_are_unknown() -> None:
    made = translate(location("L", coordinates=None))
    assert made.assets[0].latitude is None
    assert made.rejected == ()


@pytest.mark.parametrize("zone", [None, "", "AEST", "australia/sydney", "Australia", "+10:00", "../x", "localtime"])
def test_a_location_without_a_real_zone_is_quarantined_unless_the_feed_names_one(zone: str | None) -> None:
    item = location("L", time_zone=zone)
    without = translate(item, location("M"))
    assert list(without.statuses) == ["m/m-1"]
    (rejected,) = without.rejected
    assert (rejected.record_ref, rejected.field) == ("L", "time_zone")
    assert json.loads(rejected.payload) == item
    made = translate(item, time_zone="Australia/Perth")
    assert [asset.time_zone for asset in made.assets] == ["Australia/Perth"]
    assert len(made.rejected) == (1 if zone else 0)


def test_the_locations_own_zone_wins_over_the_feeds() -> None:
    made = translate(location("L", time_zone="Australia/Lord_Howe"), time_zone="Australia/Perth")
    assert [asset.time_zone for asset in made.assets] == ["Australia/Lord_Howe"]


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-01-02T03:04:05Z", "UTC", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02t03:04:05z", "UTC", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05", "UTC", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05", "Australia/Sydney", "2026-01-01T16:04:05+00:00"),
        ("2026-07-02T03:04:05", "Australia/Sydney", "2026-07-01T17:04:05+00:00"),
        ("2026-01-02T03:04:05Z", "Australia/Sydney", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05+02:00", "UTC", "2026-01-02T01:04:05+00:00"),
        ("2026-01-02T03:04:05.123456789Z", "UTC", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05.9999999Z", "UTC", "2026-01-02T03:04:05.999999+00:00"),
    ],
)
def test_timestamps_are_read_in_utc(text: str, zone: str, moment: str) -> None:
    read = parse_timestamp(text, ZoneInfo(zone))
    assert read == datetime.fromisoformat(moment)
    assert read.tzinfo is UTC


@pytest.mark.parametrize("text", ["yesterday", "1767225600", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_last_updated_that_is_no_timestamp_is_noted_and_left_out(text: str) -> None:
    made = translate(location("L", evses=[evse("1", last_updated=text)]))
    assert made.statuses == {"l/1": ("AVAILABLE", None)}
    assert places(made) == [("L/1", "evses[0].last_updated", "kept without this field: no timestamp")]


def test_naive_timestamps_are_read_in_the_feeds_zone() -> None:
    made = translate(
        location("L", evses=[evse("1", last_updated="2026-07-02T03:04:05")]), naive_time_zone="Europe/Vilnius"
    )
    assert made.statuses["l/1"][1] == datetime(2026, 7, 2, 0, 4, 5, tzinfo=UTC)


# --- text


def test_a_long_payload_is_cut_and_says_so() -> None:
    text = payload_text({"x": "é" * MAX_PAYLOAD_BYTES})
    assert len(text.encode()) <= MAX_PAYLOAD_BYTES
    assert text.endswith(f"cut: {2 * MAX_PAYLOAD_BYTES + 9} bytes in all")
    exact = "x" * (MAX_PAYLOAD_BYTES - 2)
    assert payload_text(exact) == f'"{exact}"'


def test_references_stay_short_enough_for_an_index() -> None:
    (rejected,) = translate(location("x" * 5000)).rejected
    assert len(rejected.record_ref) == 300


def test_text_that_no_database_can_hold_is_replaced() -> None:
    item = parse_json(json.dumps(location("L", name="a\x00b\ud800c😀")).encode())
    assert translate(item).assets[0].site_name == "a\ufffdb\ufffdc😀"


def test_an_escaped_backslash_before_u0000_is_left_alone() -> None:
    assert parse_json(rb'["\\u0000"]') == ["\\u0000"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a": 1', b"[1,]", b"\xff\xfe", b'"\xed\xa0\x80"', b"[" * 200_000, b"9" * 5000]
)
def test_what_is_not_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(body)


def test_numbers_that_json_does_not_know_become_null() -> None:
    assert parse_json(b'\xef\xbb\xbf[NaN, -Infinity, "x"]') == [None, None, "x"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = ("id", "uid", "status", "evses", "connectors", "coordinates", "time_zone", "operator", "last_updated")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["location", "evse", "connector"]), max_size=3),
    st.sampled_from([*keys, "max_electric_power", "max_voltage", "evse_id", "party_id", "publish"]),
    json_values,
)
def test_nothing_a_feed_can_send_raises(levels: list[str], key: str, value: object) -> None:
    item = location("L", evse_count=2)
    targets = {
        "location": item,
        "evse": item["evses"][0],
        "connector": item["evses"][0]["connectors"][0],
    }
    for level in levels:
        targets[level][key] = value
    made = translate_locations([item, value], feed(), SOURCE)
    assert set(made.statuses) == {asset.evse_ref for asset in made.assets}
    assert len({(asset.evse_ref, asset.connector_ref) for asset in made.assets}) == len(made.assets)
    assert all(isinstance(one, Rejected) and one.reason for one in made.rejected)
