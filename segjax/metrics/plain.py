"""Scores as plain numbers for JSON: rounded, by name, and None where there is nothing to score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def plain_scores(scores: Mapping[str, Any], classes: Sequence[str], categories: Sequence[str]) -> dict[str, Any]:
    """Returns what `official_scores` returned as plain numbers, values of classes and categories by their names."""
    return {
        name: plain_number(value) if np.ndim(value) == 0
        else plain_numbers(categories if name.startswith("category") else classes, value)
        for name, value in scores.items()
    }  # fmt: skip


def plain_numbers(names: Iterable[str], values: Iterable[float]) -> dict[str, float | None]:
    """Returns name -> number; nan becomes None."""
    return {name: plain_number(value) for name, value in zip(names, values)}


def plain_number(value: float) -> float | None:
    """Returns a number with 9 decimals; None for nan."""
    return None if value != value else round(float(value), 9)
