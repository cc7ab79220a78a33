"""Families of weight files: how their tensor names become those of a network, and the options they require."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rule = tuple[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Place:
    """Where a network has the leaves that a file fills. A trunk has another place in nearly every network.

    rename: ordered (regex, replacement) pairs, of which the first that matches a name is applied once (re.sub). With
        several replacements, one tensor fills several leaves.
    fills: regex of the leaves that the file must fill; others (a decoder on an ImageNet trunk) keep their values.
    """

    rename: Sequence[Rule] = ()
    fills: str = ""


@dataclass(frozen=True)
class Source:
    """A family of weight files.

    rename: rules as in Place, applied first; they lead to the names that most networks use.
    ignore: regex of tensors, by their names in the file, that are dropped if the network has no leaf for them.
    places: alternatives, of which the one with the most leaves filled by the file is taken.
    options: options of the network that belong to the weights, {"align_corners": False}; the stages apply them.
    normalisation: name of the normalisation of the training images, "" if unknown; the stages compare it.
    also: further dicts of the checkpoint to join to the state dict; key -> prefix for their names.
    """

    rename: Sequence[Rule] = ()
    ignore: str | None = None
    places: Sequence[Place] = (Place(),)
    options: Mapping[str, Any] = field(default_factory=dict)
    normalisation: str = ""
    also: Mapping[str, str] = field(default_factory=dict)

    def names(self, name: str, place: Place) -> tuple[str, ...]:
        """Returns the names in the network of the file's tensor `name`."""
        return tuple(new for middle in _apply(self.rename, name) for new in _apply(place.rename, middle))

    def place(self, tensors: Collection[str], targets: Collection[str]) -> Place:
        """Returns the place with the most leaves that the tensors fill; the first of equals.

        tensors: names in the file. targets: names of the network's leaves.
        """
        if len(self.places) == 1:
            return self.places[0]
        needed = set(targets)

        def filled(place: Place) -> int:
            named = {new for name in tensors for new in self.names(name, place)} & needed
            return sum(bool(re.search(place.fills, name)) for name in named)

        return max(self.places, key=filled)


def _apply(rules: Sequence[Rule], name: str) -> tuple[str, ...]:
    for pattern, replacement in rules:
        if re.search(pattern, name):
            several = (replacement,) if isinstance(replacement, str) else replacement
            return tuple(re.sub(pattern, one, name, count=1) for one in several)
    return (name,)


def under(*prefixes: str, leaves: str) -> tuple[Place, ...]:
    """Returns one place per prefix, with the trunk's own names under it; leaves: regex of the trunk's names."""
    return tuple(Place(rename=((r"^", prefix),), fills=f"^{re.escape(prefix)}({leaves})") for prefix in prefixes)
