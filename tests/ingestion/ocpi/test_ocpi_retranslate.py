"""What a quarantined record needs beside itself, and reading it again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_server import connector, evse, location, pull_config

from ingestion.config import CpoConfig, OcpiPullFeed
from ingestion.model import PAYLOAD_LIMIT, Poll, Rejected, cut, is_cut
from ingestion.ocpi.translate import NotReadableAgainError, Translated, retranslate, translate_locations
from ingestion.writer import Writer
from tests.feeds import at
from warehouse.connection import Role, connect


def rejected(*items: object, **settings: Any) -> list[Rejected]:
    feed = pull_config(**settings).feed
    assert isinstance(feed, OcpiPullFeed)
    return list(translate_locations(items, feed, "/locations").rejected)


def again(record: Rejected, **settings: Any) -> Translated:
    return retranslate(record.payload, record.context, pull_config(**settings))


def repaired(record: Rejected, **fields: Any) -> Translated:
    """Read the record again as if it had been right."""
    return retranslate(json.dumps(json.loads(record.payload) | fields), record.context, pull_config())


def test_a_rejected_location_is_its_own_context_and_can_be_read_again() -> None:
    item = location("L", time_zone=None, coordinates=None, evse_count=2)
    (record,) = rejected(item)
    assert (json.loads(record.payload), record.context) == (item, None)
    assert [one.field for one in again(record).rejected] == ["time_zone"]
    made = again(record, time_zone="Australia/Perth")
    assert sorted(made.statuses) == ["l/l-1", "l/l-2"]
    assert made.rejected == ()


def test_the_context_of_an_evse_is_its_location_without_any_evse() -> None:
    bad = evse("E1", status=None)
    item = location("L", evses=[bad, evse("E2")], party_id="XYZ", opening_times={"twentyfourseven": True})
    (record,) = rejected(item)
    assert json.loads(record.payload) == bad
    without = {name: value for name, value in item.items() if name != "evses"}
    assert json.loads(record.context or "") == {"location": without}
    made = repaired(record, status="CHARGING")
    assert {ref: word for ref, (word, _) in made.statuses.items()} == {"au*xyz/l/e1": "CHARGING"}
    assert made.assets[0].site_name == "Site L"
    assert made.rejected == ()


def test_the_context_of_a_connector_is_its_location_and_its_evse_without_any_connector() -> None:
    bad = connector(id=None)
    port = evse("E1", connectors=[bad, connector("2")])
    item = location("L", evses=[port, evse("E2")])
    (record,) = rejected(item)
    assert json.loads(record.payload) == bad
    assert json.loads(record.context or "") == {
        "location": {name: value for name, value in item.items() if name != "evses"},
        "evse": {name: value for name, value in port.items() if name != "connectors"},
    }
    made = repaired(record, id="1")
    assert [(asset.evse_ref, asset.connector_ref) for asset in made.assets] == [("l/e1", "1")]


@pytest.mark.parametrize(
    "evses",
    [
        [5, evse("E2")],
        [evse("E1", connectors=[])],
        [evse("E1", connectors=[connector(id="")])],
        [evse("E1"), evse("E1", status="CHARGING")],
        [evse("E1", connectors=[connector("1"), connector("1", standard="CHADEMO")])],
    ],
)
def test_every_evse_and_connector_that_is_rejected_whole_has_its_context(evses: list[Any]) -> None:
    for record in rejected(location("L", evses=evses)):
        found = json.loads(record.context or "null")
        assert found["location"]["id"] == "L"
        assert "evses" not in found["location"]
        assert ("evse" in found) == (record.record_ref.count("/") == 2)


def test_the_rejected_evses_of_one_location_share_one_context() -> None:
    one, two = rejected(location("L", evses=[evse("E1", status=None), evse("E2", status=None)]))
    assert one.context is two.context


@pytest.mark.parametrize(
    "item",
    [
        location("L", time_zone="AEST"),
        location("L", coordinates={"latitude": "151", "longitude": "-33"}),
        location("L", name={"en": "x"}),
        location("L", evses=[evse("E1", last_updated="yesterday")]),
        location("L", evses=[evse("E1", connectors=[connector(max_electric_power="22 kW")])]),
        location("L", evses=[evse("E1", connectors=[connector(max_electric_power=1e12)])]),
    ],
)
def test_a_note_of_a_field_of_an_object_that_was_kept_cannot_be_read_again(item: dict[str, Any]) -> None:
    (record,) = rejected(item)
    assert record.context is None
    with pytest.raises(NotReadableAgainError, match="only a field was dropped"):
        again(record)


@pytest.mark.parametrize("part", ["payload", "context"])
def test_what_the_quarantine_has_cut_cannot_be_read_again(part: str) -> None:
    pad = "x" * PAYLOAD_LIMIT
    port = evse("E1", status=None) | ({"pad": pad} if part == "payload" else {})
    (record,) = rejected(location("L", evses=[port]) | ({"pad": pad} if part == "context" else {}))
    kept = {"payload": cut(record.payload), "context": cut(record.context or "")}
    assert [name for name, text in kept.items() if is_cut(text)] == [part]
    with pytest.raises(NotReadableAgainError, match="longer than what the quarantine keeps, and cut"):
        retranslate(kept["payload"], kept["context"], pull_config())


def test_a_text_is_cut_at_the_limit_and_says_so() -> None:
    exact = "é" * PAYLOAD_LIMIT
    assert cut(exact) == exact
    assert not is_cut(exact)
    assert cut(exact + "!") == f"{exact} [cut: {PAYLOAD_LIMIT + 1} characters]"


@pytest.mark.parametrize(("payload", "context"), [("{", None), ("{}", "{"), ("[]", "[]"), ("{}", '{"site": {}}')])
def test_what_is_no_ocpi_object_cannot_be_read_again(payload: str, context: str | None) -> None:
    with pytest.raises(NotReadableAgainError):
        retranslate(payload, context, pull_config())


def test_a_feed_of_files_tells_no_ocpi_objects() -> None:
    feed = {"kind": "history", "status_profile": "history", "liveness_seconds": 300}
    config = CpoConfig.model_validate({"cpo_id": "files", "name": "Files", "feed": feed})
    with pytest.raises(NotReadableAgainError, match="files: a feed of kind history tells no OCPI objects"):
        retranslate("{}", None, config)


def test_what_the_database_keeps_of_a_rejected_record_is_enough_to_read_it_again(warehouse: str) -> None:
    sent = [
        location("L1", evses=[evse("E1", status=None), evse("E2")]),
        location("L2", evses=[evse("E1", connectors=[connector(id=None), connector("2")])]),
        location("L3", time_zone=None, coordinates=None),
        location("L4", time_zone=None, coordinates=None, pad="é" * PAYLOAD_LIMIT),
        location("L5", evses=[evse("E1", status=None)], pad="é" * PAYLOAD_LIMIT),
    ]
    config = pull_config()
    assert isinstance(config.feed, OcpiPullFeed)
    told = translate_locations(sent, config.feed, "/locations")
    with connect(Role.INGEST) as connection:
        poll = Poll(b"body", assets=told.assets, statuses=told.statuses, rejected=told.rejected)
        assert Writer(connection, config).write_poll(poll, at(0), at(0)) is not None
        kept = connection.execute("select record_ref, payload, context from raw.quarantine order by record_ref")
        records = {record_ref: (payload, context) for record_ref, payload, context in kept}
    made = {}
    for record_ref, (payload, context) in records.items():
        try:
            read = retranslate(payload, context, pull_config(time_zone="Australia/Perth"))
            made[record_ref] = (sorted(read.statuses), [one.field for one in read.rejected])
        except NotReadableAgainError as error:
            made[record_ref] = ([], [str(error)])
    cut_short = ([], ["the record is longer than what the quarantine keeps, and cut"])
    assert made == {
        "L1/E1": ([], ["evses[0].status"]),
        "L2/E1/#0": ([], ["evses[0].connectors[0].id", "evses[0].connectors"]),
        "L3": (["l3/l3-1"], []),
        "L4": cut_short,
        "L5/E1": cut_short,
    }
