"""Recipients are blocks of one file, read strictly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from extracts.recipients import load_recipients, recipient
from warehouse.strict_yaml import ConfigError

BLOCK = """\
acme:
  name: Acme
  states: [NSW, ACT]
  rule_set: evc_2025
  rule_set_version: 1
  time_zone: Australia/Sydney
  day: 3
  hour: 6
  destination: default
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipients.yml"


def test_the_recipients_that_ship_are_read() -> None:
    found = load_recipients()
    assert {name: (each.states, each.time_zone, each.rule_set) for name, each in found.items()} == {
        "nsw_dcceew": (("NSW",), "Australia/Sydney", "evc_2025"),
        "wa_government": (("WA",), "Australia/Perth", "evc_2025"),
    }


def test_a_block_is_one_recipient(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROP", "/srv/drop")
    path.write_text(BLOCK.replace("default", "file://${DROP}"), encoding="utf-8")
    found = recipient("acme", path)
    assert found.recipient_id == "acme"
    assert found.states == ("NSW", "ACT")
    assert found.destination_url == "file:///srv/drop"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  hour: 6\n", "", "{path}: acme: hour: missing key"),
        ("  hour: 6\n", "  hour: 6\n  minute: 5\n", "{path}: acme: minute: unknown key"),
        ("hour: 6", "hour: 24", "{path}: acme: hour: "),
        ("day: 3", "day: 31", "{path}: acme: day: "),
        ("day: 3", "day: '3'", "{path}: acme: day: "),
        ("[NSW, ACT]", "[]", "{path}: acme: states: "),
        ("[NSW, ACT]", "[NSW, NSW]", "{path}: acme: states: "),
        ("[NSW, ACT]", "NSW", "{path}: acme: states: "),
        ("Australia/Sydney", "Sydney", "{path}: acme: time_zone: "),
        ("Australia/Sydney", "../etc", "{path}: acme: time_zone: "),
        ("rule_set_version: 1", "rule_set_version: one", "{path}: acme: rule_set_version: "),
        ("  day: 3\n", "  day: 3\n  day: 4\n", "{path}: key 'day' stands twice"),
        (
            "default",
            "${NOT_SET_ANYWHERE}",
            "{path}: acme: destination: environment variable NOT_SET_ANYWHERE",
        ),
        ("acme:", "Acme Corp:", "{path}: Acme Corp: an id is"),
        (
            "  name: Acme\n",
            "  name: Acme\n  recipient_id: other\n",
            "{path}: acme: recipient_id: unknown key",
        ),
    ],
)
def test_a_bad_block_is_an_error_that_names_file_block_and_key(path: Path, old: str, new: str, message: str) -> None:
    assert old in BLOCK
    path.write_text(BLOCK.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message.format(path=path))):
        load_recipients(path)


@pytest.mark.parametrize(("text", "message"), [("", "must be a mapping"), ("acme: 5", "acme: must be a mapping")])
def test_a_file_of_another_shape_is_refused(path: Path, text: str, message: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_recipients(path)


def test_an_unknown_recipient_is_refused_with_the_ones_there_are(path: Path) -> None:
    path.write_text(BLOCK, encoding="utf-8")
    with pytest.raises(ConfigError, match="no recipient 'acne'; there are acme"):
        recipient("acne", path)
