"""Splits parameters and their optimizer state over the devices, by rules, if they do not fit on every device.

The arrays stay global: a step computes the same numbers, and XLA gathers arrays when they are needed (ZeRO; Rajbhandari
et al., SC 2020, section 5).
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.errors import UserError, did_you_mean
from segjax.parallel.mesh import axis_size, replicated
from segjax.parallel.rules import Rules, match_rules, tree_paths

SMALLEST = 2**14  # values; gathering a smaller array costs more than replicating it


def split_by_rules(
    params: Any, rules: Rules, mesh: Mesh, *, what: str, smallest: int = SMALLEST
) -> dict[str, NamedSharding]:
    """Returns path -> sharding of each parameter.

    An array is split along its longest side that is divisible by the axis (the last of equals). It is replicated if it
    has no such side, or fewer than `smallest` values.

    params: tree of arrays or shapes.
    rules: (regex, axis of the mesh that splits the array, "" = none) pairs; without rules nothing is split.
    what: config key of the rules, for errors.

    Raises UserError for an axis that the mesh lacks, or rules that `match_rules` refuses.
    """
    axes = jax.tree.leaves(match_rules(params, rules, what=what)) if rules else [""] * len(jax.tree.leaves(params))
    for axis in axes:
        if axis and axis not in mesh.shape:
            raise UserError(f"{what} names the axis {axis!r}, which the mesh lacks.{did_you_mean(axis, mesh.shape)}")
    leaves = zip(tree_paths(params), axes, jax.tree.leaves(params), strict=True)
    return {path: _split(leaf.shape, axis, mesh, smallest) for path, axis, leaf in leaves}


def lay_out(tree: Any, of_params: dict[str, NamedSharding], mesh: Mesh) -> Any:
    """Returns a tree of shardings for a tree with the paths of parameters, such as the optimizer's moments.

    of_params: result of `split_by_rules`; leaves at other paths are replicated.
    """
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
