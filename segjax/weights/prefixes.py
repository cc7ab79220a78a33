"""Prefixes that wrappers leave in the names of tensors, and the networks that a dictionary contains by prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# of DataParallel, torch.compile, training wrappers, teachers and students, and averaged weights
PREFIXES = (
    "module.", "model.", "_orig_mod.", "_forward_module.", "net.", "network.", "student.", "teacher.", "ema.",
    "model_ema.", "ema_model.",
)  # fmt: skip
MOST = 64  # networks in one dictionary; names made to harm the reader could give 2^n


@dataclass(frozen=True)
class Unwrapped:
    """The tensors of one network in a dictionary, without the prefixes of wrappers.

    key: prefixes that distinguish it from others in the dictionary, joined by dots; "" for none.
    names: name without prefixes -> name in the dictionary.
    cut: prefix -> number of names that it was cut from.
    """

    key: str
    names: Mapping[str, str]
    cut: Mapping[str, int]


def unwrap(names: Iterable[str], targets: Sequence[str]) -> list[Unwrapped]:
    """Returns the networks that the names belong to: one, or several if names differ by their prefix only.

    A prefix that the network uses itself is kept. Names without a prefix belong to every network that lacks them. Names
    that give more than MOST networks are returned as they are.

    names: of tensors.
    targets: PyTorch names of the network's leaves.
    """
    foreign = [p for p in PREFIXES if not any(target.startswith(p) for target in targets)]
    whole = Unwrapped("", {name: name for name in names}, {})
    todo, found = [whole], []
    while todo:  # no recursion: a foreign file may repeat a prefix any number of times
        if len(todo) + len(found) > MOST:
            return [whole]
        one = todo.pop()
        below = _cut_once(one, foreign)
        if below:
            todo += reversed(below)
        else:
            found.append(one)
    return found


def _cut_once(one: Unwrapped, foreign: Sequence[str]) -> list[Unwrapped]:
    """Returns the networks after one prefix is cut from each name; [] if no name has any."""
    groups: dict[str, dict[str, str]] = {}  # prefix -> shortened name -> name in the dictionary
    for name, original in one.names.items():
        prefix = next((p for p in foreign if name.startswith(p)), "")
        groups.setdefault(prefix, {})[name.removeprefix(prefix)] = original
    if not any(groups):
        return []
    times = Counter(short for group in groups.values() for short in group)
    rivals = {prefix: group for prefix, group in groups.items() if any(times[short] > 1 for short in group)}
    agreed = {prefix: group for prefix, group in groups.items() if prefix not in rivals}
    bare = {short: original for short, original in rivals.get("", {}).items() if times[short] == 1}
    shared = {short: original for group in agreed.values() for short, original in group.items()} | bare
    return [
        Unwrapped(f"{one.key}.{prefix}".strip("."), shared | group, _add(one.cut, {**agreed, prefix: group}))
        for prefix, group in (rivals or {"": {}}).items()
    ]


def _add(cut: Mapping[str, int], groups: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    return dict(Counter(cut) + Counter({prefix: len(group) for prefix, group in groups.items() if prefix}))


def common_part(names: Iterable[str]) -> str:
    """Returns the first part of dotted names with its dot if all names share it, else ""."""
    first = {name.partition(".")[0] + "." if "." in name else "" for name in names}
    return first.pop() if len(first) == 1 else ""
