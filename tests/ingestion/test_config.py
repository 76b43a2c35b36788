"""``config/cpos/<cpo_id>.yml`` is read strictly, and every complaint names file and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingestion.config import CpoConfig, cpo_ids, load_cpo, secret
from warehouse.connection import REPOSITORY
from warehouse.strict_yaml import ConfigError

GOOD = """\
cpo_id: wattle
name: Wattle Energy
feed:
  kind: ocpi_pull
  version: "2.2.1"
  versions_url: ${WATTLE_URL}/versions
  party: AU*WAT
  token_secret: WATTLE_TOKEN
  poll_seconds: 60
  liveness_seconds: 300
  status_profile: ocpi_2_2_1
"""


def load(folder: Path, text: str, name: str = "wattle") -> CpoConfig:
    (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    return load_cpo(name, folder, expand=True)


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLE_URL", "http://localhost:1")


def test_a_good_file_is_read_and_its_variables_are_filled_in(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.feed.kind == "ocpi_pull"
    assert config.feed.versions_url == "http://localhost:1/versions"
    assert (config.feed.naive_time_zone, config.feed.time_zone, config.feed.ended_at) == ("UTC", None, None)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("name: Wattle", "nmae: Wattle", r"nmae: unknown key"),
        ("  party: AU*WAT", "  party: AU*WAT\n  colour: red", r"feed\.colour: unknown key"),
        ("name: Wattle Energy\n", "", r"name: missing key"),
        ("  party: AU*WAT\n", "", r"feed\..*party: missing key"),
        ("  poll_seconds: 60", "  poll_seconds: 60\n  poll_seconds: 30", r"key 'poll_seconds' stands twice \(line \d+"),
        ("name: Wattle", "cpo_id: wattle\nname: Wattle", r"key 'cpo_id' stands twice"),
        ("poll_seconds: 60", "poll_seconds: often", r"feed\..*poll_seconds: .*integer"),
        ("poll_seconds: 60", "poll_seconds: yes", r"feed\.poll_seconds: .*integer"),
        ("status_profile: ocpi_2_2_1", "status_profile: ocpi_9", r"feed\.status_profile: .*'ocpi_9' is not a profile of"),
        ("poll_seconds: 60", "poll_seconds: 0", r"feed\..*poll_seconds: .*greater than 0"),
        ("name: Wattle Energy", "name: [a, b]", r"name: .*string"),
        ("cpo_id: wattle", "cpo_id: 7", r"cpo_id: .*string"),
        ("cpo_id: wattle", "cpo_id: mulga", r"cpo_id: 'mulga' must be the file's name 'wattle'"),
        ("kind: ocpi_pull", "kind: carrier_pigeon", r"feed: .*carrier_pigeon"),
        ('version: "2.2.1"', 'version: "1.6"', r"feed\..*version: .*2\.2\.1"),
        ("${WATTLE_URL}", "${NOT_SET_ANYWHERE}", r"feed\.versions_url: environment variable NOT_SET_ANYWHERE is not set"),
        ("liveness_seconds: 300", "liveness_seconds: 60", r"liveness_seconds must be more than feed\.poll_seconds"),
        ("poll_seconds: 60", "poll_seconds: 60\n  time_zone: Australia", r"time_zone: .*'Australia' is not an IANA"),
        ("poll_seconds: 60", "poll_seconds: 60\n  naive_time_zone: UTC+10", r"naive_time_zone: .*not an IANA"),
        ("poll_seconds: 60", "poll_seconds: 60\n  ended_at: 2026-10-01T00:00:00", r"ended_at: .*timezone"),
        ("party: AU*WAT", "party: AUWAT", r"feed\..*party: .*pattern"),
        (GOOD, "- a\n- b\n", r"must be a mapping"),
        (GOOD, "", r"must be a mapping"),
        (GOOD, "cpo_id: [", r"not valid YAML"),
        ("name: Wattle", "7: seven\nname: Wattle", r"7: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, GOOD.replace(old, new))
    assert str(tmp_path / "wattle.yml") in str(raised.value)
    assert re.search(complaint, str(raised.value)), str(raised.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, GOOD.replace("name:", "nmae:").replace("  party:", "  prty:"))
    assert len(str(raised.value).splitlines()) == 4


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "wattle.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"wattle\.yml"):
        load_cpo("wattle", tmp_path)


def test_an_unknown_cpo_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"mulga\.yml does not exist.* wattle$"):
        load_cpo("mulga", tmp_path)


def test_the_folder_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, GOOD)
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    assert cpo_ids() == ["wattle"]
    assert load_cpo("wattle").name == "Wattle Energy"


def test_all_committed_files_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATOR_URL", "http://localhost:1")
    folder = REPOSITORY / "config" / "cpos"
    found = cpo_ids(folder)
    assert {"banksia", "mallee", "tidewater"} <= set(found)
    assert [load_cpo(cpo_id, folder).cpo_id for cpo_id in found] == found
    assert sorted(path.name for path in folder.iterdir()) == [f"{cpo_id}.yml" for cpo_id in found]


# Secrets


def test_a_secret_is_found_by_name_or_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n", encoding="utf-8")
    monkeypatch.setenv("WATTLE_TOKEN_FILE", str(file))
    assert secret("WATTLE_TOKEN") == "from-file"
    monkeypatch.setenv("WATTLE_TOKEN", "")
    assert secret("WATTLE_TOKEN") == "from-file"
    monkeypatch.setenv("WATTLE_TOKEN", " from-variable\n")
    assert secret("WATTLE_TOKEN") == "from-variable"


def test_a_secret_that_is_not_there_is_an_error_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATTLE_TOKEN", "WATTLE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="WATTLE_TOKEN is not set"):
        secret("WATTLE_TOKEN")
    monkeypatch.setenv("WATTLE_TOKEN", "  ")
    with pytest.raises(ConfigError, match="WATTLE_TOKEN is not set"):
        secret("WATTLE_TOKEN")
    monkeypatch.setenv("WATTLE_TOKEN_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"WATTLE_TOKEN_FILE names cannot be read"):
        secret("WATTLE_TOKEN")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    monkeypatch.setenv("WATTLE_TOKEN_FILE", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=r"WATTLE_TOKEN_FILE names is empty"):
        secret("WATTLE_TOKEN")


def test_no_error_repeats_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLE_TOKEN", "hunter2")
    in_place_of_its_name = GOOD.replace("token_secret: WATTLE_TOKEN", "token_secret: hunter2")
    as_a_wrong_value = GOOD.replace("poll_seconds: 60", "poll_seconds: ${WATTLE_TOKEN}")
    beside_a_wrong_key = GOOD.replace("WATTLE_TOKEN", "${WATTLE_TOKEN}").replace("name:", "nmae:")
    for text in (in_place_of_its_name, as_a_wrong_value, beside_a_wrong_key):
        with pytest.raises(ConfigError) as raised:
            load(tmp_path, text)
        assert "hunter2" not in str(raised.value)
    (tmp_path / "token").write_bytes(b"hunter2\xff")
    monkeypatch.setenv("WATTLE_TOKEN", "")
    monkeypatch.setenv("WATTLE_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ConfigError) as raised:
        secret("WATTLE_TOKEN")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_whoever_does_not_ask_the_feed_needs_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATTLE_URL")
    (tmp_path / "wattle.yml").write_text(GOOD, encoding="utf-8")
    assert load_cpo("wattle", tmp_path).cpo_id == "wattle"
