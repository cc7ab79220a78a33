"""Finds the dictionaries of named tensors in a checkpoint, wherever it has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segjax.typing import Array

MOST = 4096  # dictionaries in a checkpoint; that of an optimizer has one for each leaf of the network
# keys below which a checkpoint has the momenta of an optimizer, under the names of tensors or their numbers
OPTIMIZER = re.compile(r"^optim", re.IGNORECASE)


@dataclass(frozen=True)
class StateDict:
    """A dictionary of tensors.

    key: keys that lead to it, joined by dots; "" for the checkpoint itself.
    tensors: name -> array, its entries that are tensors.
    numbered: whether one of these keys is no text, as those of an optimizer's state.
    """

    key: str
    tensors: Mapping[str, Array]
    numbered: bool = False

    @property
    def name(self) -> str:
        """The key as a user writes it: "." is the checkpoint itself."""
        return self.key or "."


def find_state_dicts(tree: Any) -> list[StateDict]:
    """Returns all dictionaries with tensors in nested dicts and lists, in the order of the tree.

    A dictionary that the tree contains twice is found twice; what is below it is followed once. After more than MOST
    the search ends.
    """
    found: list[StateDict] = []
    seen: dict[int, Mapping[str, Array]] = {}
    # a key is (key above, name), joined only where there are tensors: joined keys of a small file can fill the memory
    todo: list[tuple[Any, Any, bool]] = [(None, tree, False)] if isinstance(tree, (Mapping, list, tuple)) else []
    while todo and len(found) <= MOST:  # no recursion: the depth of a foreign file has no limit
        key, node, numbered = todo.pop()
        tensors = seen.get(id(node))
        if tensors is None:
            children = list(node.items() if isinstance(node, Mapping) else enumerate(node))
            named = isinstance(node, Mapping)
            tensors = {n: v for n, v in children if isinstance(n, str) and isinstance(v, np.ndarray)} if named else {}
            seen[id(node)] = tensors
            below = [
                ((key, name), value, numbered or (named and not isinstance(name, str)))
                for name, value in children
                if isinstance(value, (Mapping, list, tuple))
            ]
            todo += reversed(below)
        if tensors:
            found.append(StateDict(_joined(key), tensors, numbered))
    return found


def _joined(key: Any) -> str:
    parts = []
    while key is not None:
        key, name = key
        parts.append(str(name))
    return ".".join(reversed(parts)).lstrip(".")


def plausible(dicts: Sequence[StateDict]) -> list[StateDict]:
    """Returns those that can be the weights of a network.

    Not those below an optimizer or a number, then not those with single numbers only (a count of iterations), then not
    those without a dotted name (the weights of a loss). Each rule holds only if it leaves one.
    """
    rules: list[Callable[[StateDict], bool]] = [
        lambda d: not (d.numbered or any(OPTIMIZER.search(part) for part in d.key.split("."))),
        lambda d: any(np.size(value) > 1 for value in d.tensors.values()),
        lambda d: any("." in name for name in d.tensors),
    ]
    kept = list(dicts)
    for rule in rules:
        kept = [d for d in kept if rule(d)] or kept
    return kept


def join(dicts: Sequence[StateDict], also: Mapping[str, str]) -> list[StateDict]:
    """Returns the dictionaries, of which those named in `also` are joined to their neighbours.

    also: last part of a key -> prefix for the names of its tensors, see `Source.also`.
    """
    joined = {d.key: d for d in dicts if d.key.rpartition(".")[2] in also}
    if len(joined) == len(dicts):
        return list(dicts)  # there is nothing to join them to
    found = []
    for d in dicts:
        if d.key in joined:
            continue
        tensors, parent = dict(d.tensors), d.key.rpartition(".")[0]
        for other in joined.values():
            above, _, last = other.key.rpartition(".")
            if above == parent:
                tensors |= {also[last] + name: value for name, value in other.tensors.items()}
        found.append(StateDict(d.key, tensors, d.numbered))
    return found


def has_tensors(tree: Any) -> bool:
    """Whether nested dicts and lists contain any tensor, with or without a name."""
    todo, seen = [tree], set()
    while todo:
        node = todo.pop()
        if isinstance(node, np.ndarray):
            return True
        if isinstance(node, (Mapping, list, tuple)) and id(node) not in seen:
            seen.add(id(node))
            todo += node.values() if isinstance(node, Mapping) else node
    return False


def same_tensors(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    """Whether two dictionaries contain the same names and values."""
    if a is b:
        return True
    return a.keys() == b.keys() and all(
        a[name] is b[name] or (a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name])) for name in a
    )
