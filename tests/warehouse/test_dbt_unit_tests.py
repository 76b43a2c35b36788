"""The unit tests of the dbt project: worked examples with the numbers that must come out."""

from __future__ import annotations

import pytest
import yaml

from warehouse.connection import REPOSITORY
from warehouse.transform import run_dbt, transform


@pytest.mark.usefixtures("warehouse")
def test_every_dbt_unit_test_passes() -> None:
    written = {
        unit_test["name"]
        for path in (REPOSITORY / "dbt_project" / "models").rglob("*.yml")
        for unit_test in yaml.safe_load(path.read_text(encoding="utf-8")).get("unit_tests", [])
    }
    assert len(written) >= 4
    transform()
    results = run_dbt(["test", "--select", "test_type:unit"], variables={})
    assert {node.split(".")[-1]: status for node, status, _, _ in results} == dict.fromkeys(written, "pass")
