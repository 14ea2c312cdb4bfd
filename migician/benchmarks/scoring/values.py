"""How figures are written: rounded once, from full precision, and alike on the page, in tables and on a terminal.

Nothing else rounds a figure of a report: the page's script shows the texts that are written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Value:
    """A figure in percent, or a difference in percentage points, with its 95% interval where there is one.

    >>> str(Value(74.845, (72.04, 77.0)))
    '74.84 (72.0-77.0)'
    >>> str(Value(-0.001, (-1.25, 1.0), signed=True))
    '+0.00 (-1.2 to +1.0)'
    """

    value: float
    span: tuple[float, float] | None = None
    signed: bool = False
    """Whether it is a difference."""

    @property
    def text(self) -> str:
        """The figure alone, with two decimals."""
        return f"{self.value:{self._sign}z.2f}"

    @property
    def ends(self) -> tuple[str, str]:
        """Both ends of the interval, with one decimal; raises `ValueError` where there is none."""
        if self.span is None:
            raise ValueError("a figure without an interval")
        low, high = self.span
        return f"{low:{self._sign}z.1f}", f"{high:{self._sign}z.1f}"

    @property
    def interval(self) -> str:
        """The interval as it stands beside the figure; empty where there is none."""
        return f"({(' to ' if self.signed else '-').join(self.ends)})" if self.span else ""

    @property
    def _sign(self) -> str:
        return "+" if self.signed else ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.text, self.interval)))


def value_of(figures: Mapping[str, Any], metric: str, *, signed: bool = False, interval: str = "interval") -> Value:
    """A metric among the figures of a report, with its interval; of a comparison with `signed`."""
    low, high = figures[interval][metric]
    return Value(figures[metric], (low, high), signed)


def iou_text(iou: float) -> str:
    """An IoU, 0..1."""
    return f"{iou:.2f}"


def p_text(p: float) -> str:
    """The p of a test."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
