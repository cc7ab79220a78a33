"""Enlarging images whose rows are split over devices (`mesh.space`): neighbours exchange one row.

A product over the rows of such an image is a sum over devices. XLA sums the enlarged maps, all classes at full size. If
a program says into how many parts its rows are split, each part is a product of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.platform import traced_inside
from segjax.typing import Array

# as in ops/platform.py, part of the keys of jax's caches of traced functions
_parts = jax.make_user_context(1)


def row_parts() -> int:
    """Returns the number of parts into which the program being traced splits the rows of its images."""
    return _parts.value


def in_row_parts(function: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """Returns a new function that traces `function`, a whole program with its gradients, for rows in so many parts."""
    return traced_inside(function, functools.partial(_parts, parts))


def part_weights(matrix: np.ndarray, parts: int) -> np.ndarray | None:
    """Returns the weights (parts, o / parts, h / parts + 2) of each part's rows and of a row beside it on either side.

    matrix: (o, h), of all rows.

    Returns None if `parts` does not divide the rows, or if a part's output reads further than its neighbours' nearest.
    """
    out, size = matrix.shape
    if out % parts or size % parts:
        return None
    rows, padded = size // parts, np.pad(matrix, ((0, 0), (1, 1)))
    blocks = padded.reshape(parts, out // parts, size + 2)
    found = np.stack([block[:, i * rows : (i + 1) * rows + 2] for i, block in enumerate(blocks)])
    return found if np.count_nonzero(found) == np.count_nonzero(matrix) else None


def product_by_parts(x: Array, weights: np.ndarray, precision: lax.Precision) -> Array:
    """Returns the rows (n, c, o, w) of x (n, c, h, w) by the weights of `part_weights`."""
    n, c, h, w = x.shape
    parts, out, _ = weights.shape
    x, weights = x.reshape(n, c, parts, h // parts, w), jnp.asarray(weights, x.dtype)
    above, own, below = weights[..., 0], weights[..., 1:-1], weights[..., -1]
    y = jnp.einsum("ncprw,por->ncpow", x, own, precision=precision)
    y += _neighbours(x[:, :, :, -1:], 1) * above[:, :, None] + _neighbours(x[:, :, :, :1], -1) * below[:, :, None]
    return y.reshape(n, c, parts * out, w)


def _neighbours(x: Array, shift: int) -> Array:
    """Returns x (n, c, parts, 1, w) of the part before (1) or after (-1), zeros where there is none."""
    return lax.pad(
        x, jnp.zeros((), x.dtype), [(shift if axis == 2 else 0, -shift if axis == 2 else 0, 0) for axis in range(5)]
    )
