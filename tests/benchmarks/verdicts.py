"""What is said beside a figure that has a bound."""

from __future__ import annotations


class Verdicts:
    """Says of each figure whether its bound holds; ``all_hold`` says it of all of them."""

    def __init__(self) -> None:
        self.all_hold = True

    def at_most(self, figure: float, bound: float, shown: str) -> str:
        """``shown`` is the bound as people read it."""
        return self._said(figure <= bound, shown)

    def at_least(self, figure: float, bound: float, shown: str) -> str:
        """As `at_most`, of a figure that may not be less."""
        return self._said(figure >= bound, shown)

    def _said(self, holds: bool, shown: str) -> str:
        self.all_hold &= holds
        return f"bound {shown} {'holds' if holds else 'BROKEN'}"
