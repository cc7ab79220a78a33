"""Thresholds of confidence: a number for all classes, or numbers by class name."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.errors import UserError, did_you_mean

Threshold = float | Mapping[str, float]


def check_threshold(value: Any, *, where: str) -> None:
    """Raises UserError unless a threshold is a number from 0 to 1, or a mapping of class names to such numbers."""
    for name, number in value.items() if isinstance(value, Mapping) else [("", value)]:
        if isinstance(number, bool) or not isinstance(number, numbers.Real) or not 0 <= number <= 1:
            key = f"{where}.{name}" if name else where
            raise UserError(f"config key {key}={number!r} must be a probability from 0 to 1, below which is ignored.")


def class_thresholds(value: Threshold, names: Sequence[str], *, where: str) -> np.ndarray:
    """Returns the threshold of each of k classes, float32 (k,); classes that a mapping does not name get 0.

    value: see `check_threshold`.
    names: of the k classes.
    where: config key, for the error.

    Raises UserError with the nearest name for an unknown class.
    """
    if not isinstance(value, Mapping):
        return np.full(len(names), value, np.float32)
    for name in value:
        if name not in names:
            raise UserError(f"config key {where} names {name!r}, which is no class.{did_you_mean(name, names)}")
    return np.array([value.get(name, 0.0) for name in names], np.float32)
