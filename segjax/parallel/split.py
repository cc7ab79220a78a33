"""Parameters and their optimizer state split over the devices, by rules, where every device holding all is too much.

The arrays stay global: a step gives the same numbers, and XLA gathers what it needs where it needs it (ZeRO;
Rajbhandari et al., SC 2020).
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.errors import UserError, did_you_mean
from segjax.parallel.mesh import axis_size, replicated
from segjax.parallel.rules import Rules, match_rules, tree_paths

SMALLEST = 2**14  # values; gathering a smaller array costs more than holding it


def split_by_rules(
    params: Any, rules: Rules, mesh: Mesh, *, what: str, smallest: int = SMALLEST
) -> dict[str, NamedSharding]:
    """Path -> where each parameter lies. params: tree of arrays or shapes.

    rules: (regex, axis of the mesh that splits the array, "" = none); no rules split nothing. An array is split along
    its longest side among those that the axis divides (the last of equals); one without such a side, or of fewer values
    than `smallest`, is whole on every device.
    Raises UserError for an axis that the mesh lacks.
    """
    axes = jax.tree.leaves(match_rules(params, rules, what=what)) if rules else [""] * len(jax.tree.leaves(params))
    for axis in axes:
        if axis and axis not in mesh.shape:
            raise UserError(f"{what} names the axis {axis!r}, which the mesh lacks.{did_you_mean(axis, mesh.shape)}")
    leaves = zip(tree_paths(params), axes, jax.tree.leaves(params), strict=True)
    return {path: _split(leaf.shape, axis, mesh, smallest) for path, axis, leaf in leaves}


def lay_out(tree: Any, of_params: dict[str, NamedSharding], mesh: Mesh) -> Any:
    """Shardings for a tree of (some of) the parameters, or of what there is one of for each; others are replicated."""
    found = [of_params.get(path, replicated(mesh)) for path in tree_paths(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), found)


def _split(shape: tuple[int, ...], axis: str, mesh: Mesh, smallest: int) -> NamedSharding:
    parts = axis_size(mesh, axis) if axis else 1
    sides = [(side, place) for place, side in enumerate(shape) if side % parts == 0 and side >= parts]
    if parts == 1 or math.prod(shape) < smallest or not sides:
        return replicated(mesh)
    spec: list[str | None] = [None] * len(shape)
    spec[max(sides)[1]] = axis
    return NamedSharding(mesh, PartitionSpec(*spec))
