"""The k-th smallest of many numbers, without sorting."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.typing import Array

ONE = 0x3F800000  # bits of 1.0


def kth_smallest(x: Array, rank: Array, axes: tuple[int, ...], *, at_least: float = 0.0) -> jax.Array:
    """Returns max(at_least, the rank-th smallest number of x over `axes`), float32, exact to the last bit.

    Floats in 0..1 have the order of their bits. Bisection over the bits counts the numbers up to the middle. It ends at
    the exact number after at most 31 counts, and after one if the result is `at_least`. A count needs one pass over x
    and, if x is spread over devices, communication of one scalar; a sort would gather all of x.

    x: float32 in 0..1; numbers above 1 are padding and never the result.
    rank: int from 1, () or of the shape of the result. The result is 1 if x has fewer numbers than that.
    axes: to search over; they have size 1 in the result.
    at_least: in 0..1.
    """
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.int32)

    def enough(bound):
        return jnp.sum(bits <= bound, axis=axes, keepdims=True, dtype=jnp.int32) >= rank

    low = jax.lax.bitcast_convert_type(jnp.float32(at_least), jnp.int32)  # the result is in low..high
    low = jnp.broadcast_to(low, [1 if i in axes else n for i, n in enumerate(bits.shape)])
    high = jnp.where(enough(low), low, ONE)
    low = jnp.minimum(low, high)  # equal numbers, but inside shard_map both ends of the search must vary by device

    def halve(bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        found = enough(middle)
        return jnp.where(found, low, middle + 1), jnp.where(found, middle, high)

    _, high = jax.lax.while_loop(lambda bounds: jnp.any(bounds[0] < bounds[1]), halve, (low, high))
    return jax.lax.bitcast_convert_type(high, jnp.float32)
