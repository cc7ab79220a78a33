"""Gradients of replicated arguments inside shard_map."""

from __future__ import annotations

import jax
from jax import lax

from segjax.typing import Array


def like_argument(gradient: Array, argument: Array) -> Array:
    """Returns a hand-written gradient, summed over the mapped axes on which it varies and its argument does not.

    JAX inserts this sum itself in backward passes that it derives. Outside shard_map the gradient is unchanged.
    """
    axes = _varying_axes(gradient) - _varying_axes(argument)
    return lax.psum(gradient, tuple(axes)) if axes else gradient


def _varying_axes(x: Array) -> frozenset[str]:
    kind = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", None)  # other releases of jax call the set `vma`
    return getattr(kind, "vma", frozenset()) if manual is None else manual.varying
