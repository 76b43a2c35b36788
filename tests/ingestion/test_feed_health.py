"""When a feed counts as silent, what is said of it, and that the schedule's task and the command line say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion import settings
from ingestion.__main__ import main
from ingestion.config import CpoConfig
from ingestion.health import FeedHealth, SilentFeedError, describe, read_health, silence
from ingestion.model import Contact, Outcome, Rejected
from ingestion.runs import watch_feed
from ingestion.writer import Writer
from tests.feeds import asset, history_config, poll, polled_config
from warehouse.connection import Role, connect

NOW = datetime(2026, 10, 3, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=90)
CONFIG = polled_config("wattle")


def heard(minutes: float, **more: Any) -> FeedHealth:
    """A feed whose last contact was so many minutes ago."""
    return FeedHealth("wattle", LONG_AGO, last_contact_at=NOW - timedelta(minutes=minutes), **more)


@pytest.mark.parametrize(
    ("health", "config", "is_silent"),
    [
        (heard(15), CONFIG, False),
        (heard(15.1), CONFIG, True),
        (heard(59), polled_config("wattle", alert_after_minutes=60), False),
        (heard(61), polled_config("wattle", alert_after_minutes=60), True),
        (FeedHealth("wattle", LONG_AGO), CONFIG, True),
        (FeedHealth("wattle", NOW - timedelta(minutes=15)), CONFIG, False),
        (FeedHealth("wattle", None), CONFIG, False),
        (heard(600), history_config("wattle"), False),
        (heard(600), polled_config("wattle", ended_at="2026-10-03T11:59:00+00:00"), False),
        (heard(600), polled_config("wattle", ended_at="2026-10-03T12:01:00+00:00"), True),
    ],
)
def test_a_feed_is_silent_after_its_own_number_of_minutes(
    health: FeedHealth, config: CpoConfig, is_silent: bool
) -> None:
    assert (silence(health, config, NOW) is not None) == is_silent
    assert ("SILENT" in describe(health, config, NOW)) == is_silent


def test_an_alert_names_the_last_contact_the_last_failure_and_what_to_do() -> None:
    failed = heard(20, last_failed_at=NOW - timedelta(minutes=1), last_failure="answered 500")
    assert silence(failed, CONFIG, NOW) == (
        "wattle: silent for 20 minutes (more than 15), last contact at 2026-10-03 11:40:00+0000; last failure at "
        "2026-10-03 11:59:00+0000: answered 500. See 'A feed is silent' in docs/runbook.md"
    )
    # What failed before the last contact is not why it is silent now.
    before = heard(20, last_failed_at=NOW - timedelta(minutes=21), last_failure="answered 500")
    assert "answered 500" not in (silence(before, CONFIG, NOW) or "")


def test_every_alert_has_a_heading_in_the_runbook() -> None:
    text = (settings.REPOSITORY / "docs" / "runbook.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")}
    assert headings >= {
        "A feed is silent",
        "A feed flipped all its EVSEs",
        "Words that nobody mapped",
        "EVSEs vanished",
    }


@pytest.mark.usefixtures("warehouse")
def test_how_a_feed_stands_is_read_from_what_was_stored() -> None:
    with connect(Role.INGEST) as connection:
        assert read_health(connection, CONFIG, NOW) == FeedHealth("wattle", None)
        writer = Writer(connection, CONFIG)
        registered_at = read_health(connection, CONFIG, NOW).registered_at
        assert read_health(connection, CONFIG, NOW) == FeedHealth("wattle", registered_at)
        assert registered_at is not None
        # That a full list is wanted is no contact.
        writer.ask_for_full_list(NOW)
        assert read_health(connection, CONFIG, NOW) == FeedHealth("wattle", registered_at)
        first = NOW - timedelta(minutes=9)
        writer.write_poll(poll({"A": "AVAILABLE", "B": "CHARGING"}), first, first)
        second = first + timedelta(minutes=1)
        bad = Rejected("/locations", "S1/E9", "status", "is not a text", "{}")
        writer.write_poll(poll({"A": "Odd"}, assets=(asset("A"),), rejected=(bad,)), second, second)
        writer.write_failure(NOW - timedelta(minutes=1), NOW, "answered 500")
        assert read_health(connection, CONFIG, NOW) == FeedHealth(
            "wattle", registered_at, second, NOW - timedelta(minutes=1), "answered 500", 1, ("odd",), 1
        )
        # Handed over in files, a contact is no sign of life for the collector: it is looked up.
        other = history_config("tidewater")
        with Writer(connection, other).batch() as batch:
            batch.add_contacts([Contact(first, first, Outcome.COMPLETE, NOW)])
        assert read_health(connection, other, NOW).last_contact_at == first


@pytest.mark.usefixtures("warehouse")
def test_the_task_fails_and_the_command_ends_with_1_when_a_feed_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    (tmp_path / "wattle.yml").write_text(
        "cpo_id: wattle\nname: Wattle\nfeed:\n  kind: rest_push\n  status_profile: history\n  liveness_seconds: 300\n"
        "  alert_after_minutes: 30\n",
        encoding="utf-8",
    )
    (tmp_path / "tidewater.yml").write_text(
        "cpo_id: tidewater\nname: Tidewater\nfeed:\n  kind: history\n  liveness_seconds: 300\n", encoding="utf-8"
    )
    now = datetime.now(UTC)
    assert watch_feed("tidewater", now) is None
    assert main(["health"]) == 0
    assert "wattle: ok, not expected yet" in capsys.readouterr().out
    # One that never sends is expected from the first time on that it is watched.
    assert "wattle: ok, no contact yet" in (watch_feed("wattle", now) or "")
    assert watch_feed("wattle", now + timedelta(minutes=29)) is not None
    with pytest.raises(SilentFeedError, match="wattle: no contact since it was first expected, at 20"):
        watch_feed("wattle", now + timedelta(minutes=31))
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, polled_config("wattle"))
        at = now - timedelta(minutes=29)
        writer.write_poll(poll({"A": "AVAILABLE"}), at, at)
    assert "wattle: ok, last contact" in (watch_feed("wattle", now) or "")
    assert main(["health"]) == 0
    capsys.readouterr()
    with pytest.raises(SilentFeedError, match="wattle: silent for 31 minutes"):
        watch_feed("wattle", now + timedelta(minutes=2))
    with connect(Role.INGEST) as connection:
        connection.execute("update raw.feed_life set last_contact_at = last_contact_at - interval '1 hour'")
    assert main(["health"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in said] == ["tidewater: not watched", "wattle: SILENT"]


def seeds(folder: Path, monkeypatch: pytest.MonkeyPatch, bases: str) -> None:
    """Three profiles, and the bases given as ``profile,base`` lines."""
    profiles = folder / "status_profiles.csv"
    profiles.write_text(
        "status_profile,source_word,valid_from,status\na,One,2010-01-01,available\nb,two,2010-01-01,charging\n"
        "c,three,2010-01-01,blocked\nc,two,2020-01-01,reserved\n",
        encoding="utf-8",
    )
    (folder / "status_profile_bases.csv").write_text(f"status_profile,base_profile\n{bases}", encoding="utf-8")
    monkeypatch.setattr(settings, "STATUS_PROFILES", profiles)
    monkeypatch.setattr(settings, "STATUS_PROFILE_BASES", folder / "status_profile_bases.csv")
    # What is found here must not outlast the test.
    monkeypatch.setattr(settings, "status_profiles", settings.status_profiles.__wrapped__)


def test_a_profile_has_the_words_of_its_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds(tmp_path, monkeypatch, "a,b\nb,c\nd,a\n")
    three = {"three": "blocked"}
    two = {"two": "charging", **three}
    # Its own way with a word comes before that of its base, whatever the dates.
    assert settings.status_profiles() == {
        "a": {"one": "available", **two},
        "b": two,
        "c": three | {"two": "reserved"},
        "d": {"one": "available", **two},
    }


@pytest.mark.parametrize(
    ("bases", "problem"),
    [
        ("a,nowhere\n", "a: its base 'nowhere' does not exist"),
        ("a,b\nb,a\n", "goes round in a circle"),
        ("a,a\n", "a: its base 'a' goes round in a circle"),
    ],
)
def test_bases_that_lead_nowhere_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bases: str, problem: str
) -> None:
    seeds(tmp_path, monkeypatch, bases)
    with pytest.raises(ValueError, match=problem):
        settings.status_profiles()


def test_ocpp_words_and_the_example_of_a_cpo_are_known() -> None:
    words = settings.status_profiles()
    assert words["ocpp_1_6"].keys() >= {
        "preparing",
        "suspendedev",
        "suspendedevse",
        "finishing",
        "faulted",
        "unavailable",
    }
    assert words["ocpp_2_0_1"].keys() >= {"occupied", "faulted"}
    assert words["quokka_ocpi"] == words["ocpi_2_2_1"] | {"blocked": "reserved", "inoperative": "unavailable"}
