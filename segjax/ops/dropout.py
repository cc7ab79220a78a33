"""Dropout as a function of a key, so that a backward pass can draw the same mask again instead of keeping it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segjax.typing import Array


def dropout(x: Array, key: Array, rate: float, shape: Sequence[int] | None = None) -> Array:
    """Returns x with values zeroed with probability `rate`, and the others divided by 1 - rate; dtype of x.

    key: of the mask.
    shape: of the mask, which is broadcast to x; None for a value of its own everywhere.
    """
    # 16 random bits per value instead of 32: half the time, and the probability is off by less than 1e-5
    limit = round((1 - rate) * 2**16)
    keep = jax.random.bits(key, tuple(shape or x.shape), jnp.uint16) < limit
    return jnp.where(keep, x * (2**16 / limit), 0).astype(x.dtype)
