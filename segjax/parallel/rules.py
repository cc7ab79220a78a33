"""Rules over the leaves of a tree: ordered (regex, value) pairs; the first that matches a whole path wins.

    match_rules(params, (("backbone/.*/kernel", 0.25), ("backbone/.*", 0.0), (".*", 1.0)), what="optimizer.lr_rules")

Learning-rate multipliers, weight decay, freezing and sharding are written so (after big_vision's mask trees).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import jax

from segjax.errors import UserError, did_you_mean

log = logging.getLogger("segjax")

Rules = Sequence[tuple[str, Any]]


def tree_paths(tree: Any) -> list[str]:
    """Returns the paths of the leaves, keys joined by "/", in the order of `jax.tree.leaves`."""
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)]


def match_rules(tree: Any, rules: Rules, *, what: str, unused: str = "error") -> Any:
    """Returns a tree of the same structure: for each leaf, the value of the first rule that matches its whole path.

    tree: any pytree; only its structure is used.
    rules: (regular expression, value) pairs. A tree drops None, so use 0 or False for "no".
    what: name of the rules in errors and logs, usually their config key.
    unused: treatment of a rule that matches no path: "error", "warn" or "ignore". A final ".*" may match nothing.
        A rule whose leaves all belong to earlier rules is logged with 0 leaves.

    Raises UserError for a leaf without a rule, and for a rule that is no pair, no regular expression, or unused.
    """
    if unused not in ("error", "warn", "ignore"):
        raise ValueError(f"unused={unused!r} must be 'error', 'warn' or 'ignore'")
    paths = tree_paths(tree)
    patterns = [(_compile(rule, what), rule[1]) for rule in rules]
    chosen = [next((i for i, (pattern, _) in enumerate(patterns) if pattern.fullmatch(path)), None) for path in paths]

    uncovered = [path for path, index in zip(paths, chosen) if index is None]
    if uncovered:
        shown = ", ".join(uncovered[:5]) + (f" and {len(uncovered) - 5} more" if len(uncovered) > 5 else "")
        raise UserError(f"{what} has no rule for {shown}; add a last rule ('.*', value) that covers the rest.")

    for index, (pattern, value) in enumerate(patterns):
        count = chosen.count(index)
        log.info("%s: %r = %r for %d of %d", what, pattern.pattern, value, count, len(paths))
        last = index == len(patterns) - 1 and pattern.pattern == ".*"
        if count or last or unused == "ignore" or any(pattern.fullmatch(path) for path in paths):
            continue
        message = f"{what}: the rule {pattern.pattern!r} matches nothing.{_hint(pattern.pattern, paths)}"
        if unused == "error":
            raise UserError(message)
        log.warning(message)

    values = [patterns[index][1] for index in chosen]
    return jax.tree.unflatten(jax.tree.structure(tree), values)


def _compile(rule: Any, what: str) -> re.Pattern:
    if not isinstance(rule, (tuple, list)) or len(rule) != 2 or not isinstance(rule[0], str):
        raise UserError(f"{what} contains {rule!r}; every rule is a pair (regular expression, value).")
    try:
        return re.compile(rule[0])
    except re.error as error:
        raise UserError(f"{what}: {rule[0]!r} is not a regular expression ({error}).") from error


def _hint(pattern: str, paths: list[str]) -> str:
    tops = sorted({path.split("/")[0] for path in paths})
    top = pattern.split("/")[0]
    if not tops:
        return " The tree is empty."
    if top in tops or len(tops) > 20:
        return f" Paths look like {paths[0]!r}, and a rule must match all of a path."
    return did_you_mean(top, tops)
