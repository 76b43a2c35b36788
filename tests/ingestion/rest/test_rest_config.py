"""The file of a CPO with JSON of its own: each mistake is named with file, block and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from ingestion.config import CpoConfig, RestPullFeed, cpo_ids, load_cpo
from warehouse.connection import REPOSITORY
from warehouse.strict_yaml import ConfigError

DOCS = REPOSITORY / "docs" / "add-a-cpo.md"


def example() -> str:
    """The worked example of the documentation."""
    [found] = re.findall(r"```yaml\n(# config/cpos/boobook\.yml\n.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def load(folder: Path, text: str) -> CpoConfig:
    (folder / "boobook.yml").write_text(text, encoding="utf-8")
    return load_cpo("boobook", folder)


def test_the_worked_example_is_a_good_file(tmp_path: Path) -> None:
    config = load(tmp_path, example())
    assert isinstance(config.feed, RestPullFeed)
    assert config.feed.mapping.evse.charger_id is not None
    assert len(example().splitlines()) <= 30


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("site_id: id", "site_id: id[", r"feed\.mapping\.site\.site_id: .*'id\[' is not a JMESPath expression: "),
        ("site_id: id", "site_id: ''", r"feed\.mapping\.site\.site_id: .*at least 1 character"),
        ("site_id: id", "site_key: id", r"feed\.mapping\.site\.site_key: unknown key"),
        ("sites: data.stations", "sites: data..x", r"feed\.mapping\.sites: .*'data\.\.x' is not a JMESPath expression"),
        ("unit: W", "unit: MW", r"feed\.mapping\.connector\.power\.unit: .*'kW' or 'W'"),
        ("unit: seconds", "unit: hours", r"feed\.mapping\.evse\.updated_at\.unit: .*'seconds'"),
        ("latitude: lat", "latitudes: lat", r"feed\.mapping\.site\.latitudes: unknown key"),
        ("latitude: lat\n", "\n", r"feed\.mapping\.site: .*name latitude and longitude, or coordinates"),
        ("kind: header", "kind: digest", r"feed\.auth: .*'digest'"),
        ("secret: BOOBOOK_KEY", "secret: 8f2b-x", r"feed\.auth\.secret: .*pattern"),
        ("name: X-Api-Key", "name: 'X Api Key'", r"feed\.auth\.name: .*pattern"),
        (
            "https://api",
            "https://me:hush@api",
            r"feed\.assets\.url: .*user and password do not belong into a URL: see auth",
        ),
        ("kind: page", "kind: pages", r"feed\.assets\.paging: .*'pages'"),
        ("kind: page", "kind: cursor", r"feed\.assets\.paging\.next: missing key"),
        ("total: meta.count", "total: '['", r"feed\.assets\.paging\.total: .*'\[' is not a JMESPath expression"),
        ("status: state", "state: state", r"feed\.mapping\.evse\.state: unknown key"),
        ("status: state, ", "", r"name either mapping\.evse\.status or statuses with status_mapping"),
        ("poll_seconds: 60", "poll_seconds: 600", r"feed\.liveness_seconds must be more than feed\.poll_seconds"),
        (
            "poll_seconds: 60",
            "poll_seconds: 60\n  max_shrink_ratio: 50",
            r"feed\.max_shrink_ratio: .*less than or equal to 1",
        ),
        (
            "poll_seconds: 60",
            "poll_seconds: 60\n  statuses: {url: x}",
            r"feed: .*statuses and status_mapping go together",
        ),
        (
            "assets:",
            "assets:\n    every_seconds: 600",
            r"feed: .*assets\.every_seconds is for feeds whose statuses stand apart",
        ),
        (
            'before_last: "-"',
            'before_last: ""',
            r"feed\.mapping\.evse\.charger_id\.before_last: .*at least 1 character",
        ),
    ],
)
def test_a_mistake_names_file_block_and_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = example()
    assert old in text
    with pytest.raises(ConfigError, match=rf"boobook\.yml: .*{complaint}"):
        load(tmp_path, text.replace(old, new, 1))


def test_every_key_of_a_rest_file_is_in_the_documentation() -> None:
    text = DOCS.read_text(encoding="utf-8")
    named = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    keys: set[str] = set()

    def collect(model: object) -> None:
        for name, field in getattr(model, "model_fields", {}).items():
            keys.add(name)
            pending = [field.annotation]
            while pending:
                annotation = pending.pop()
                pending += list(getattr(annotation, "__args__", ()))
                if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                    collect(annotation)

    collect(RestPullFeed)
    assert len(keys) > 40
    assert keys - named == set()


def test_the_files_of_the_real_feeds_are_good() -> None:
    folder = REPOSITORY / "config" / "demo_real" / "cpos"
    kinds = {cpo_id: load_cpo(cpo_id, folder).feed.kind for cpo_id in cpo_ids(folder)}
    assert [cpo_id for cpo_id, kind in kinds.items() if kind == "rest_pull"] == [
        "opendata_swiss",
        "sw_heilbronn",
        "sw_stuttgart",
    ]
