"""The worked example: one EVSE, 31 days."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from expectations.formulas import formulas, ratios, rounded, target_result

MINUTES = {
    "available": 30_000,
    "charging": 6_000,
    "reserved": 100,
    "blocked": 200,
    "unknown": 3_000,
    "inoperative": 2_000,
    "out_of_order": 3_340,
    "missing": 0,
}


def seconds(up: int, down: int, measured: int) -> dict[str, int]:
    return {
        "in_service_seconds": 44_640 * 60,
        "measured_seconds": measured * 60,
        "up_seconds": up * 60,
        "down_seconds": down * 60,
        "in_use_seconds": 6_100 * 60,
        "unknown_seconds": 3_000 * 60,
        "missing_seconds": 0,
    }


@pytest.mark.parametrize(
    ("rule_set", "up", "down", "measured", "expected"),
    [
        ("evc_2025", 36_100, 5_540, 41_640, ("86.70", "80.87", "87.59")),
        ("evc_2024_report", 36_100, 3_340, 41_640, ("86.70", "80.87", "87.59")),
        ("nevi_680_116", 36_300, 8_340, 44_640, ("81.32", "81.32", "88.04")),
        ("nevi_680_116", 36_300, 6_340, 44_640, ("85.80", "85.80", "92.52")),
        ("uk_pcpr_2023", 36_100, 5_340, 41_440, ("87.11", "81.23", "87.98")),
    ],
)
def test_the_worked_example_comes_out(
    rule_set: str, up: int, down: int, measured: int, expected: tuple[str, str, str]
) -> None:
    found = ratios(seconds(up, down, measured), formulas()[rule_set])
    told = [found["uptime_ratio"], found["uptime_lower_ratio"], found["uptime_upper_ratio"]]
    assert tuple(f"{float(ratio or 0) * 100:.2f}" for ratio in told) == expected
    assert sum(MINUTES.values()) == 44_640


def test_more_than_is_not_at_least() -> None:
    assert target_result(Fraction(97, 100), Decimal("0.97"), "gt") == "not_met"
    assert target_result(Fraction(97, 100), Decimal("0.97"), "ge") == "met"
    assert target_result(None, Decimal("0.97"), "ge") == "not_measured"
    assert target_result(Fraction(1), Decimal("0.97"), "eq") is None


def test_ten_decimals_half_up() -> None:
    assert rounded(Fraction(2, 3)) == Decimal("0.6666666667")
    assert rounded(Fraction(1, 2 * 10**10)) == Decimal("0.0000000001")
    assert rounded(Fraction(1)) == 1
    assert rounded(None) is None
