"""Lines beyond the border of an array, in a form that XLA's partitioner can share out along that axis."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.ops.platform import platform
from segjax.typing import Array


def repeat_border(x: Array, width: int, axis: int) -> Array:
    """Returns x with its first and its last line along an axis repeated `width` times, as jnp.pad(mode="edge").

    jnp.pad concatenates, for which an axis that is split over devices (`mesh.space`) is moved as a whole. Here zeros
    are added, for which neighbours exchange lines, and replaced. On the CPU that takes twice as long (80 ms against 42
    for 24 planes of 512x512 with their blur), and programs for it concatenate.
    """
    lines = [(width, width) if i == axis else (0, 0) for i in range(x.ndim)]
    if platform() == "cpu":
        return jnp.pad(x, lines, mode="edge")
    length = x.shape[axis]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(*both, 0) for both in lines])
    line = lax.broadcasted_iota(jnp.int32, padded.shape, axis)
    first, last = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, length - 1))
    return jnp.where(line < width, first, jnp.where(line < width + length, padded, last))
