"""Replay: what was rejected and is read again later leaves raw as if it had been read at once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import quarantine
from ingestion.__main__ import main
from ingestion.config import CpoConfig, OcpiPullFeed
from ingestion.model import Message, Poll, Rejected, Told, Translated, reference
from ingestion.ocpi.translate import translate_locations
from ingestion.writer import Writer
from tests.feeds import asset, at, changes_of, count, poll, polled_config
from tests.ingestion.ocpi.scripted_server import location, pull_config
from warehouse.connection import Role, connect

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        yield opened


def bad(evse_id: str, word: str) -> Rejected:
    return Rejected("/list", f"S1/{evse_id}", "status", "is not read", json.dumps({"id": evse_id, "word": word}))


def reads_all(payload: str, context: str | None, config: CpoConfig, known: object) -> Translated:
    record = json.loads(payload)
    return Translated((asset(record["id"]),), {reference("S1", record["id"]): (record["word"], None)}, ())


def reads_none(payload: str, context: str | None, config: CpoConfig, known: object) -> Translated:
    return Translated((), {}, (bad("A", "X"),))


def refuses(payload: str, context: str | None, config: CpoConfig, known: object) -> Translated:
    raise ValueError("no way")


def replay_all(connection: psycopg.Connection, config: CpoConfig, retranslate: quarantine.Retranslate) -> list[str]:
    lines: list[str] = []
    records = quarantine.find(connection, cpo_id=config.cpo_id, is_unresolved=True)
    quarantine.replay(connection, config, records, retranslate, at(1000), lines.append)
    return lines


@st.composite
def nights(draw: st.DrawFn) -> list[dict[str, tuple[str, bool]]]:
    """For each poll: EVSE to its word and whether it can be read; an EVSE that is not there is not listed."""
    return [
        {
            evse: (draw(st.sampled_from(("AVAILABLE", "CHARGING"))), draw(st.booleans()))
            for evse in ("A", "B")
            if draw(st.integers(0, 3))
        }
        for _ in range(draw(st.integers(1, 8)))
    ]


@settings(max_examples=60, deadline=None)
@given(nights())
def test_what_is_replayed_is_known_as_if_it_had_been_read_at_once(
    connection: psycopg.Connection, night: list[dict[str, tuple[str, bool]]]
) -> None:
    number = next(_numbers)
    replayed, at_once = polled_config(f"replayed_{number}"), polled_config(f"at_once_{number}")
    first, second = Writer(connection, replayed), Writer(connection, at_once)
    for minute, listed in enumerate(night):
        good = {evse: word for evse, (word, is_readable) in listed.items() if is_readable}
        rejected = tuple(bad(evse, word) for evse, (word, is_readable) in listed.items() if not is_readable)
        first.write_poll(poll(good, rejected=rejected), at(minute), at(minute))
        second.write_poll(poll({evse: word for evse, (word, _) in listed.items()}), at(minute), at(minute))
    replay_all(connection, replayed, reads_all)
    assert quarantine.find(connection, cpo_id=replayed.cpo_id, is_unresolved=True) == []
    for minute in range(len(night)):
        assert known(connection, replayed.cpo_id, at(minute)) == known(connection, at_once.cpo_id, at(minute)), minute


def known(connection: psycopg.Connection, cpo_id: str, when: datetime) -> dict[str, str]:
    """What raw says was in force at a poll, of EVSEs that were not absent."""
    rows = connection.execute(
        """
        select evse_ref, status_word from raw.evse inner join raw.feed using (feed_key)
        cross join lateral (
            select status_word from raw.status_change as change
            where change.evse_key = evse.evse_key and observed_at <= %s order by observed_at desc, change_key desc limit 1
        ) as in_force
        where cpo_id = %s and status_word is not null
        """,
        (when, cpo_id),
    )
    return dict(rows.fetchall())


def test_a_record_that_still_is_wrong_stays(connection: psycopg.Connection) -> None:
    config = polled_config("stays")
    Writer(connection, config).write_poll(poll({"B": "AVAILABLE"}, rejected=(bad("A", "X"),)), at(0), at(0))
    (record,) = quarantine.find(connection, cpo_id="stays")
    assert replay_all(connection, config, reads_none) == [f"{record.quarantine_key} stays: status: is not read"]
    assert replay_all(connection, config, refuses) == [f"{record.quarantine_key} stays: it can't be read again: no way"]
    assert quarantine.find(connection, cpo_id="stays", is_unresolved=True) == [record]
    assert changes_of(connection, "stays") == [("b", at(0), "AVAILABLE")]


def test_a_record_is_replayed_once(connection: psycopg.Connection) -> None:
    config = polled_config("once")
    Writer(connection, config).write_poll(poll({"B": "AVAILABLE"}, rejected=(bad("A", "X"),)), at(0), at(0))
    (record,) = quarantine.find(connection, cpo_id="once")
    assert replay_all(connection, config, reads_all) == [
        f"{record.quarantine_key} replayed: 1 asset versions, 1 changes, 0 contacts, 0 quarantined"
    ]
    (done,) = quarantine.find(connection, cpo_id="once")
    assert (done.resolution, done.resolved_at) == ("replayed", at(1000))
    assert replay_all(connection, config, reads_all) == []
    lines: list[str] = []
    quarantine.replay(connection, config, [done], reads_all, at(1001), lines.append)
    assert lines == [f"{record.quarantine_key} stays: it was replayed already"]


def test_a_record_that_went_in_without_a_field_is_not_replayed(connection: psycopg.Connection) -> None:
    config = polled_config("kept")
    note = Rejected("/list", "S1/A", "last_updated", "kept without this field: no timestamp", '"x"')
    Writer(connection, config).write_poll(poll({"A": "AVAILABLE"}, rejected=(note,)), at(0), at(0))
    assert "the record itself went in" in replay_all(connection, config, reads_all)[0]


def test_a_payload_that_was_cut_is_not_replayed(connection: psycopg.Connection) -> None:
    config = polled_config("cut")
    long = Rejected("/list", "S1/A", "status", "is not read", json.dumps({"id": "A", "word": "X" * 70_000}))
    Writer(connection, config).write_poll(poll({"B": "AVAILABLE"}, rejected=(long,)), at(0), at(0))
    assert "too long to be kept whole" in replay_all(connection, config, reads_all)[0]


def test_what_was_told_of_an_unknown_evse_goes_in_once_it_is_described(connection: psycopg.Connection) -> None:
    config = polled_config("later")
    writer = Writer(connection, config)
    told = Told("s1/n", "CHARGING", at(1), '{"uid": "N"}')
    writer.write_messages([(Message("push", told=(told,)), at(2))])
    assert "nobody has described s1/n yet" in replay_all(connection, config, refuses)[0]
    writer.write_poll(poll({"N": "AVAILABLE"}), at(10), at(10))
    replay_all(connection, config, refuses)
    assert changes_of(connection, "later") == [("n", at(1), "CHARGING"), ("n", at(10), "AVAILABLE")]


def test_what_a_message_told_meanwhile_ends_what_is_replayed(connection: psycopg.Connection) -> None:
    config = polled_config("meanwhile")
    writer = Writer(connection, config)
    writer.write_poll(poll({"A": "AVAILABLE"}), at(-1), at(-1))
    writer.write_poll(poll({}, rejected=(bad("A", "BLOCKED"),)), at(0), at(0))
    writer.write_messages([(Message("push", told=(Told("s1/a", "CHARGING", at(1)),)), at(1))])
    writer.write_poll(poll({"A": "CHARGING"}), at(2), at(2))
    replay_all(connection, config, reads_all)
    assert changes_of(connection, "meanwhile") == [
        ("a", at(-1), "AVAILABLE"), ("a", at(0), None), ("a", at(0), "BLOCKED"), ("a", at(1), "CHARGING"),
    ]  # fmt: skip


def test_the_command_lists_explains_dismisses(
    connection: psycopg.Connection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(connection, polled_config("banksia")).write_poll(
        poll({"B": "AVAILABLE"}, rejected=(bad("A", "X"),)), at(0), at(0)
    )
    connection.commit()
    (record,) = quarantine.find(connection, cpo_id="banksia")
    key = str(record.quarantine_key)
    assert main(["quarantine", "--cpo", "banksia"]) == 0
    assert f"{key}  2026-10-01 00:00:00  banksia  open  /list S1/A status: is not read" in capsys.readouterr().out
    assert main(["quarantine", "explain", key]) == 0
    said = capsys.readouterr().out
    assert '"word": "X"' in said
    assert "replay: " in said
    assert main(["quarantine", "explain"]) == 2
    assert "name the records" in capsys.readouterr().err
    assert main(["quarantine", "replay"]) == 2
    assert main(["quarantine", "dismiss", key]) == 0
    assert capsys.readouterr().out == "1 dismissed\n"
    assert main(["quarantine", "--cpo", "banksia"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["quarantine", "--cpo", "banksia", "--all"]) == 0
    assert "dismissed" in capsys.readouterr().out
    assert count(connection, "quarantine", "banksia", "resolution = 'dismissed'") == 1


def test_a_record_of_a_real_list_is_replayed_from_the_command_line_once_the_settings_are_mended(
    connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = pull_config("http://127.0.0.1:9").model_copy(update={"cpo_id": "wattle"})
    assert isinstance(config.feed, OcpiPullFeed)
    # Neither the Location nor its coordinates tell a time zone, and the file names none.
    nowhere = location("L1", time_zone=None, coordinates={"latitude": "0", "longitude": "0"})
    translated = translate_locations([nowhere, location("L2")], config.feed, "/locations")
    writer = Writer(connection, config)
    for minute in (0, 1):
        answer = Poll(
            bytes([minute]), assets=translated.assets, statuses=translated.statuses, rejected=translated.rejected
        )
        assert writer.write_poll(answer, at(minute), at(minute)) is not None
    connection.commit()
    settings = config.model_dump(mode="json", exclude_none=True)
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    file = tmp_path / "wattle.yml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["quarantine", "replay", "--cpo", "wattle"]) == 0
    assert "stays: time_zone: no time zone" in capsys.readouterr().out
    settings["feed"]["time_zone"] = "Australia/Perth"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["quarantine", "replay", "--cpo", "wattle"]) == 0
    assert capsys.readouterr().out.endswith("wattle: 1 asset versions, 1 changes, 0 contacts, 0 quarantined\n")
    assert changes_of(connection, "wattle") == [("l1-1", at(0), "AVAILABLE"), ("l2-1", at(0), "AVAILABLE")]
