"""The composition of an epoch: shares of real and of propagated samples, and of those centred on each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.epoch_plans import Epoch


def epoch_shares(epoch: Epoch, parts: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns the shares of an epoch's n samples, each of the whole epoch.

    parts: name -> (first, end) numbers of the records.

    Returns {"samples": n, "parts": {part: share}, "anywhere": {part: share}, "classes": {class: {part: share}}}.
    "anywhere" and "classes" add up to 1.
    """
    n = len(epoch.records)

    def split(rows: np.ndarray) -> dict[str, float]:
        records = epoch.records[rows]
        return {name: round(float(((records >= a) & (records < b)).sum() / n), 6) for name, (a, b) in parts.items()}

    return {
        "samples": n,
        "parts": split(np.ones(n, bool)),
        "anywhere": split(epoch.classes < 0),
        "classes": {name: split(epoch.classes == c) for c, name in enumerate(class_names)},
    }


def describe_shares(shares: Mapping[str, Any]) -> list[str]:
    """Returns the result of `epoch_shares` as lines for a log, in percent of the epoch."""
    parts = list(shares["parts"])
    whole = ", ".join(f"{name} {100 * shares['parts'][name]:.1f} %" for name in parts)
    rows = {"anywhere": shares["anywhere"], **shares["classes"]}
    if not any(sum(row.values()) for row in shares["classes"].values()):
        rows = {}
    width = max(map(len, rows), default=0)
    return [f"{shares['samples']} samples per epoch: {whole}"] + [
        f"  {name:<{width}} " + ", ".join(f"{part} {100 * row[part]:.1f} %" for part in parts)
        for name, row in rows.items()
    ]
