"""The uptime formulas once more, from pooled seconds: the gate's second opinion on the marts, and the
manifest's summary.

Which formula a rule-set has is in ``formulas.json``, on purpose not read from the warehouse whose figures are
judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Formula:
    """``formula`` is ``up_over_measured`` or ``not_down_over_measured``;
    ``unknown`` says where unknown time is counted.
    """

    formula: str
    unknown: str


@cache
def formulas() -> dict[str, Formula]:
    """All rule-sets the gate can recompute, by name."""
    document = json.loads(Path(__file__).with_name("formulas.json").read_text(encoding="utf-8"))
    return {rule_set: Formula(**entry) for rule_set, entry in document.items()}


def _share(part: int, whole: int) -> Fraction | None:
    return Fraction(part, whole) if whole > 0 else None


def ratios(seconds: Mapping[str, int], formula: Formula) -> dict[str, Fraction | None]:
    """Every ratio of the marts, exactly, from one row's seconds; ``None`` where nothing was measured.

    The bounds move every unknown and missing second to down (lower) or to up (upper). They exist wherever
    that leaves time to divide by.
    """
    measured, up, down = seconds["measured_seconds"], seconds["up_seconds"], seconds["down_seconds"]
    unknown, missing = seconds["unknown_seconds"], seconds["missing_seconds"]
    unknown_is_down = formula.unknown == "down"
    silent = missing if unknown_is_down else missing + unknown
    hidden_in_down = unknown if unknown_is_down else 0
    whole = measured + silent
    if formula.formula == "up_over_measured":
        headline, lower, upper = up, up, up + silent + hidden_in_down
    else:
        headline, lower, upper = measured - down, measured - down, whole - down + hidden_in_down
    return {
        "uptime_ratio": _share(headline, measured),
        "uptime_lower_ratio": _share(lower, whole),
        "uptime_upper_ratio": _share(upper, whole),
        "coverage_ratio": _share(measured, seconds["in_service_seconds"]),
        "utilisation_ratio": _share(seconds["in_use_seconds"], measured),
        "unavailability_ratio": _share(down, measured),
    }


def target_result(ratio: Fraction | None, target: Decimal | None, comparison: str | None) -> str | None:
    """``met``, ``not_met`` or ``not_measured``; ``None`` for a comparison nobody knows."""
    if ratio is None:
        return "not_measured"
    if target is None or comparison not in ("ge", "gt"):
        return None
    is_met = ratio >= Fraction(target) if comparison == "ge" else ratio > Fraction(target)
    return "met" if is_met else "not_met"


def rounded(ratio: Fraction | None) -> Decimal | None:
    """Ten decimals, half up: as the marts round."""
    if ratio is None:
        return None
    scaled = Decimal(ratio.numerator) * 10**10 / Decimal(ratio.denominator)
    return scaled.quantize(Decimal(1), rounding=ROUND_HALF_UP).scaleb(-10)
