"""Figures of repeated runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

Figures = dict[str, Any]  # name with its unit -> a number, a text, or a spread


def spread(values: Iterable[float]) -> dict[str, float]:
    """Returns median, smallest and largest value, and how many there are."""
    values = list(values)
    return dict(median=statistics.median(values), min=min(values), max=max(values), repeats=len(values))


def walls(times: Sequence[tuple[float, float]]) -> list[float]:
    """Returns the wall seconds of runs that benchmarks/clock.py has timed."""
    return [wall for wall, _ in times]


def rates(seconds: Iterable[float], count: float = 1) -> dict[str, float]:
    """Returns the spread of `count` per second."""
    return spread(count / one for one in seconds)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Returns the spread of ours / theirs over the turns."""
    return spread(a / b for a, b in zip(ours, theirs, strict=True))
