"""A family of weight files: how its tensor names become those of a network, and which options come with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rule = tuple[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Place:
    """Where a network keeps what a file holds. A trunk has another place in nearly every network.

    rename: ordered (regex, replacement); the first that matches a name (re.sub, once) is applied. Several replacements:
        one tensor fills several leaves.
    fills: regex of the leaves that the file must fill; the others (a decoder on an ImageNet trunk) keep their values.
    """

    rename: Sequence[Rule] = ()
    fills: str = ""


@dataclass(frozen=True)
class Source:
    """How the names of one family of files become those of a network.

    rename: as in Place, applied first: to the names most networks use.
    ignore: regex of tensors (their names in the file) that are dropped where the network has no leaf for them.
    places: alternatives; the one most of whose leaves the file fills is taken.
    options: of the network, that belong to the weights ({"align_corners": False}); the stages apply them.
    normalisation: of the images that the weights were trained on, "" where it is not known; the stages compare it.
    also: further dicts of the checkpoint that are joined to the state dict, key -> prefix of their names.
    """

    rename: Sequence[Rule] = ()
    ignore: str | None = None
    places: Sequence[Place] = (Place(),)
    options: Mapping[str, Any] = field(default_factory=dict)
    normalisation: str = ""
    also: Mapping[str, str] = field(default_factory=dict)

    def names(self, name: str, place: Place) -> tuple[str, ...]:
        """Names in the network of the file's tensor `name`."""
        return tuple(new for middle in _apply(self.rename, name) for new in _apply(place.rename, middle))

    def place(self, tensors: Collection[str], targets: Collection[str]) -> Place:
        """The place of which the tensors fill the most leaves; the first of several."""
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
    """Places that keep a trunk's own names under a prefix. leaves: regex of the names that make the trunk."""
    return tuple(Place(rename=((r"^", prefix),), fills=f"^{re.escape(prefix)}({leaves})") for prefix in prefixes)
