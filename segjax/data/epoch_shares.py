"""The composition of epochs: shares of real and of other samples, and of those centred on each class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.epoch_plans import Epoch, EpochPlan

log = logging.getLogger("segjax")


def count_samples(epoch: Epoch, parts: Mapping[str, tuple[int, int]], num_classes: int) -> np.ndarray:
    """Returns the samples of each part around each class, int (p, k + 1); column 0 counts those anywhere.

    epoch: n samples.
    parts: name -> (first, end) numbers of the records.
    num_classes: k.
    """
    return np.stack(
        [
            np.bincount(epoch.classes[(epoch.records >= first) & (epoch.records < end)] + 1, minlength=num_classes + 1)
            for first, end in parts.values()
        ]
    )


def epoch_shares(epoch: Epoch, parts: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns the shares of an epoch's n samples, each of the whole epoch.

    parts: name -> (first, end) numbers of the records.

    Returns {"samples": n, "parts": {part: share}, "anywhere": {part: share}, "classes": {class: {part: share}}}.
    "anywhere" and "classes" add up to 1.
    """
    counts = count_samples(epoch, parts, len(class_names))
    return _shares(counts, len(epoch.records), tuple(parts), class_names)


def _shares(counts: np.ndarray, n: int, parts: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    def split(column: np.ndarray) -> dict[str, float]:
        return {name: round(float(count / n), 6) for name, count in zip(parts, column)}

    return {
        "samples": n,
        "parts": split(counts.sum(axis=1)),
        "anywhere": split(counts[:, 0]),
        "classes": {name: split(counts[:, c + 1]) for c, name in enumerate(class_names)},
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


def summarize_shares(shares: Mapping[str, Any]) -> list[str]:
    """Returns the result of `epoch_shares` as one line, and a second one if some samples are centred on classes."""
    lines = [describe_shares(shares)[0]]
    classes = {name: 100 * sum(row.values()) for name, row in shares["classes"].items()}
    if any(classes.values()):
        rows = {"anywhere": 100 * sum(shares["anywhere"].values()), **classes}
        lines.append("  % around " + ", ".join(f"{name} {share:.1f}" for name, share in rows.items()))
    return lines


class EpochShares:
    """The composition of the epochs of one training, for its log and its report.

    plan: of the epochs.
    parts: name -> (first, end) numbers of the records.
    class_names: of all classes.
    """

    def __init__(self, plan: EpochPlan, parts: Mapping[str, tuple[int, int]], class_names: Sequence[str]):
        self._plan, self._parts, self._class_names = plan, parts, tuple(class_names)
        self._counts: dict[int, np.ndarray] = {}

    def _of(self, epoch: int) -> np.ndarray:
        if epoch not in self._counts:
            self._counts[epoch] = count_samples(self._plan.build(epoch), self._parts, len(self._class_names))
        return self._counts[epoch]

    def shares(self, epoch: int) -> dict[str, Any]:
        """Returns the shares of an epoch, see `epoch_shares`."""
        counts = self._of(epoch)
        return _shares(counts, int(counts.sum()), tuple(self._parts), self._class_names)

    def log_table(self, epoch: int) -> None:
        """Logs all shares of an epoch, one line for each class."""
        for line in describe_shares(self.shares(epoch)):
            log.info("epoch %d: %s", epoch + 1, line)

    def log_line(self, epoch: int) -> None:
        """Logs the shares of an epoch that begins, in one or two lines; those of the first one are in its table."""
        if epoch:
            for line in summarize_shares(self.shares(epoch)):
                log.info("epoch %d: %s", epoch + 1, line)

    def report(self, tables: Sequence[int], epochs: int) -> dict[str, Any]:
        """Returns the shares of some epochs by number, and as "all" the lowest and the highest of all epochs.

        tables: numbers of these epochs.
        epochs: number of all epochs. Those before a resumed training are drawn again, so that its report is complete.
        """
        first, *rest = (self.shares(epoch) for epoch in range(epochs))
        limits = _pairs(first)
        for shares in rest:
            limits = _widened(limits, shares)
        return {**{str(epoch): self.shares(epoch) for epoch in tables}, "all": {"epochs": epochs, **limits}}


def _pairs(shares: Any) -> Any:
    if isinstance(shares, Mapping):
        return {name: _pairs(value) for name, value in shares.items()}
    return [shares, shares]


def _widened(limits: Any, shares: Any) -> Any:
    if isinstance(shares, Mapping):
        return {name: _widened(limits[name], value) for name, value in shares.items()}
    return [min(limits[0], shares), max(limits[1], shares)]
