"""The files of CPOs that stream or leave files: the documented examples are good ones, and each mistake is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ingestion.config import FileDropFeed, SseFeed, WebSocketFeed, load_cpo
from warehouse.connection import REPOSITORY
from warehouse.strict_yaml import ConfigError

DOCS = (REPOSITORY / "docs" / "add-a-cpo.md").read_text(encoding="utf-8")
EXAMPLES = {"kookaburra": WebSocketFeed, "lorikeet": SseFeed, "wattlebird": FileDropFeed}


def example(cpo_id: str) -> str:
    [found] = re.findall(rf"```yaml\n(# config/cpos/{cpo_id}\.yml\n.*?)```", DOCS, re.DOTALL)
    return str(found)


@pytest.mark.parametrize("cpo_id", EXAMPLES)
def test_the_documented_example_is_a_good_file(tmp_path: Path, cpo_id: str) -> None:
    (tmp_path / f"{cpo_id}.yml").write_text(example(cpo_id), encoding="utf-8")
    assert isinstance(load_cpo(cpo_id, tmp_path).feed, EXAMPLES[cpo_id])


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [("(`websocket`)", (WebSocketFeed,)), ("(`sse`)", (WebSocketFeed, SseFeed)), ("(`file_drop`)", (FileDropFeed,))],
)
def test_every_key_is_documented_and_none_that_is_not(heading: str, kinds: tuple[type[BaseModel], ...]) -> None:
    general = DOCS[: DOCS.index("For OCPI,")]
    own = "".join(
        section for section in re.split(r"(?m)^## ", DOCS) if any(f"(`{kind_of(kind)}`)" in section for kind in kinds)
    )
    documented = set(re.findall(r"^\| `feed\.(\w+)`", general + own, re.MULTILINE))
    assert heading in own
    keys = {name for kind in kinds for name in kind.model_fields}
    assert documented == keys


def kind_of(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("cpo_id", "change", "complaint"),
    [
        ("kookaburra", {"url": "https://live.example"}, r"feed\.url: .*pattern"),
        ("kookaburra", {"url": "wss://me:hush@live.example"}, r"feed\.url: .*do not belong into a URL: see auth"),
        ("kookaburra", {"mapping": None, "messages": None}, "name messages, mapping or both"),
        ("kookaburra", {"snapshot": {"url": "https://x.example"}}, "name snapshot_when or snapshot, not both"),
        ("kookaburra", {"quiet_seconds": 0}, r"feed\.quiet_seconds: .*greater than 0"),
        ("kookaburra", {"resumes": True}, r"feed\.resumes: unknown key"),
        ("kookaburra", {"snapshot_when": "type =="}, r"feed\.snapshot_when: .*is not a JMESPath expression"),
        ("lorikeet", {"url": "wss://live.example"}, r"feed\.url: .*pattern"),
        ("lorikeet", {"mapping": None}, "snapshot is read by mapping, which must say where the status stands"),
        ("wattlebird", {"mapping": None}, "name either mapping or status_mapping"),
        ("wattlebird", {"name_time": None}, "observed_at: name and name_time go together"),
        ("wattlebird", {"observed_at": "record", "name_time": None}, "the time of a complete file stands in its name"),
        (
            "wattlebird",
            {"observed_at": "record", "name_time": None, "is_complete": False},
            "observed_at: record needs updated_at",
        ),
        ("wattlebird", {"delimiter": ";;"}, r"feed\.delimiter: .*at most 1 character"),
        ("wattlebird", {"url": "/srv/drop"}, r"feed\.url: .*pattern"),
        ("wattlebird", {"poll_seconds": 300}, r"feed\.liveness_seconds must be more than feed\.poll_seconds"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, cpo_id: str, change: dict[str, Any], complaint: str) -> None:
    document = yaml.safe_load(example(cpo_id))
    document["feed"] = {name: value for name, value in (document["feed"] | change).items() if value is not None}
    path = tmp_path / f"{cpo_id}.yml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint) as raised:
        load_cpo(cpo_id, tmp_path)
    assert str(path) in str(raised.value)
