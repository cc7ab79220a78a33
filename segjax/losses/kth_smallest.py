"""The k-th smallest of many numbers without sorting them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.typing import Array

ONE = 0x3F800000  # bits of 1.0


def kth_smallest(x: Array, rank: Array, axes: tuple[int, ...], *, at_least: float = 0.0) -> jax.Array:
    """max(at_least, the rank-th smallest of x over `axes`), where x holds numbers in 0..1; exact to the last bit.

    Numbers from 0 to 1 are ordered as their bits, so bisection over the bits, counting the numbers up to the middle,
    ends at the very number in at most 30 counts, and after none at all where the answer is `at_least`. A count needs
    one pass over x and, where x is spread over devices, one scalar of communication; a sort would gather all of x.

    x: float32; numbers above 1 (padding) are never the answer. rank: from 1, int, of the shape of the result or ().
        Where fewer numbers are there than rank, the result is 1.
    axes: the axes to search over; they stay in the result with size 1. at_least: in 0..1.
    """
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.int32)

    def enough(bound):
        return jnp.sum(bits <= bound, axis=axes, keepdims=True, dtype=jnp.int32) >= rank

    low = jax.lax.bitcast_convert_type(jnp.float32(at_least), jnp.int32)  # the answer is in low..high
    low = jnp.broadcast_to(low, [1 if i in axes else n for i, n in enumerate(bits.shape)])
    high = jnp.where(enough(low), low, ONE)
    low = jnp.minimum(low, high)  # the same numbers; inside shard_map both ends of the search vary by device

    def halve(bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        found = enough(middle)
        return jnp.where(found, low, middle + 1), jnp.where(found, middle, high)

    _, high = jax.lax.while_loop(lambda bounds: jnp.any(bounds[0] < bounds[1]), halve, (low, high))
    return jax.lax.bitcast_convert_type(high, jnp.float32)
