"""Batch normalisation of one training step, with PyTorch semantics."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.typing import Array


def batch_moments(x: Array, *, axis_name: str | None = None) -> tuple[Array, Array, int]:
    """Mean (c,), biased variance (c,) and number of values per channel of x (..., c), in float32 or better.

    Two passes over x: E[x^2] - E[x]^2 cancels when the mean is large.
    axis_name: mapped axis (shard_map) to average over.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    mean = x.mean(axes)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
        count = count * lax.psum(1, axis_name)
    var = jnp.square(x - mean).mean(axes)
    if axis_name is not None:
        var = lax.pmean(var, axis_name)
    return mean, var, count


def normalise(x: Array, mean: Array, var: Array, scale: Array, bias: Array, *, eps: float, dtype) -> Array:
    """(x - mean) / sqrt(var + eps) * scale + bias over the last axis, in float32 or better; result in dtype."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    factor = scale * lax.rsqrt(var + eps)
    return ((x - mean) * factor + bias).astype(dtype)
