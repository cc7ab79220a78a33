"""How the tensors of a file fit the leaves of a network: which fill it, which are left, and why it would fail."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segjax.errors import UserError
from segjax.typing import Array
from segjax.weights import names
from segjax.weights.report import LoadReport, Mismatch, classifier_sizes
from segjax.weights.source import Place, Source

Problems = Mapping[str, Sequence[object]]  # kind, see `report.problems` -> names


@dataclass(frozen=True)
class Target:
    """The leaves to fill.

    leaves: PyTorch name -> (collection, *path).
    shapes: PyTorch name -> shape in the network's layout.
    skip, only: see `load`.
    """

    leaves: Mapping[str, names.Path]
    shapes: Mapping[str, tuple[int, ...]]
    skip: Sequence[str] = ()
    only: str = ""

    def skips(self, name: str) -> bool:
        """Whether a rule of `skip` matches a name."""
        return any(re.search(rule, name) for rule in self.skip)


@dataclass(frozen=True)
class Fit:
    """The tensors of one network in a file, compared with the leaves by names and shapes.

    key: of the tensors in the file, "" for the file itself.
    found: name in the file without prefixes -> tensor.
    tensors: PyTorch name in the network -> tensor.
    cut: prefix -> number of names that it was cut from.
    report: see `LoadReport`.
    classes: (classes there, classes here) if only the classifiers differ, which keep their values.
    replaced: leaves with another shape.
    problems: why a strict loading fails; empty if nothing is wrong.
    error: sentence about two tensors for one leaf, "" for none.
    """

    key: str
    found: Mapping[str, Array]
    tensors: Mapping[str, Array] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    report: LoadReport = LoadReport((), (), (), ())
    classes: tuple[int, int] | None = None
    mismatches: Sequence[Mismatch] = ()
    problems: Problems = field(default_factory=dict)
    error: str = ""

    @property
    def name(self) -> str:
        """The key as a user writes it."""
        return self.key or "."

    @property
    def is_whole(self) -> bool:
        """Whether a strict loading succeeds, as far as names and shapes determine it."""
        return not self.error and not any(self.problems.values())


def compare(
    key: str, found: Mapping[str, Array], cut: Mapping[str, int], table: Source, target: Target, where: str
) -> Fit:
    """Returns how the tensors of a family fit the leaves.

    key, found, cut: see `Fit`.
    table: of the family.
    target: leaves to fill.
    where: what the tensors are from, for errors.
    """
    place = table.place(found, target.leaves)
    try:
        tensors = renamed(found, table, place, target.leaves, where)
    except UserError as error:
        return Fit(key, found, cut=cut, error=str(error))
    scope = {name for name in target.leaves if re.search(target.only, name)}
    matched, missing, replaced, mismatches = [], [], [], []
    for name, path in target.leaves.items():
        if name not in scope:
            continue
        if name not in tensors:
            missing.append(name)
        elif target.skips(name):
            replaced.append(name)
        elif np.shape(names.from_torch(path[-1], tensors[name])) != target.shapes[name]:
            replaced.append(name)
            here = names.to_torch(path[-1], np.broadcast_to(np.False_, target.shapes[name])).shape
            mismatches.append(Mismatch(name, path[-1], tuple(np.shape(tensors[name])), here))
        else:
            matched.append(name)
    unexpected = [] if target.only else [n for n in tensors if n not in target.leaves and not target.skips(n)]
    classes = classifier_sizes(mismatches)
    known = (*target.leaves, *tensors)
    problems = {
        "unfilled": [n for n in missing if re.search(place.fills, n) and not target.skips(n)],
        "unexpected": unexpected,
        "shapes": [] if classes else mismatches,
        "unused": [rule for rule in target.skip if not any(re.search(rule, name) for name in known)],
    }
    if target.only and not matched:
        problems["unfilled"] = sorted(scope)
    report = LoadReport(*map(tuple, (matched, missing, unexpected, replaced)))
    return Fit(key, found, tensors, cut, report, classes, mismatches, problems)


def renamed(
    tensors: Mapping[str, Any], table: Source, place: Place, targets: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Returns the tensors under the names of the network, without those that the family ignores.

    Raises UserError for two tensors of one leaf.
    """
    result: dict[str, Any] = {}
    for name, value in tensors.items():
        for new in table.names(name, place):
            if table.ignore and new not in targets and re.search(table.ignore, name):
                continue
            if new in result:
                raise UserError(f"{where} holds two tensors for {new} ({name} is the second); remove one of them.")
            result[new] = value
    return result
