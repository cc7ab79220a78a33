"""Batch normalisation with PyTorch semantics, by the statistics of the batch or of groups of its images.

Statistics of groups are (g, c), where those of the batch are (c,): group i consists of the i-th b / g images. No map is
reshaped: sums over groups are made of sums over images, (b, c). So chips that share out the batch exchange nothing if
each has whole groups, and only such small arrays if not.

Source of the groups: Hoffer et al., "Train longer, generalize better" (NIPS 2017), algorithm 1 (ghost batch norm).

The backward pass is written out (Ioffe & Szegedy 2015, section 3). It reads x and dy twice and saves only x and vectors
of its channels. Differentiating the forward pass takes three times as long on CPU (18 ms against 6, 4 x 44 x 60 x 384).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.platform import platform
from segjax.ops.varying import like_argument
from segjax.typing import Array


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _means(x: Array, groups: int) -> Array:
    """Returns the means of x (b, ..., c) over the batch, (c,), or over each of several groups, (groups, c)."""
    if groups == 1:
        return x.mean(tuple(range(x.ndim - 1)))
    return x.mean(tuple(range(1, x.ndim - 1))).reshape(groups, -1, x.shape[-1]).mean(1)


def _sums(x: Array, groups: int) -> Array:
    """Returns sums, as `_means` returns means."""
    if groups == 1:
        return x.sum(tuple(range(x.ndim - 1)))
    return x.sum(tuple(range(1, x.ndim - 1))).reshape(groups, -1, x.shape[-1]).sum(1)


def _for_images(values: Array, x: Array) -> Array:
    """Returns values of groups (g, c) as those of the images of x (b, ..., c), (b, 1, ..., c); (c,) as they are."""
    if values.ndim == 1:
        return values
    groups, c = values.shape
    each = jnp.broadcast_to(values[:, None], (groups, x.shape[0] // groups, c))
    return each.reshape(-1, *(1,) * (x.ndim - 2), c)


def _groups(statistics: Array) -> int:
    return 1 if statistics.ndim == 1 else statistics.shape[0]


def batch_moments(
    x: Array, *, axis_name: str | None = None, near: Array | None = None, groups: int = 1
) -> tuple[Array, Array]:
    """Returns the mean (c,) and biased variance (c,) of x (..., c), in float32 or wider; of several groups (groups, c).

    It takes two passes over x, because E[x^2] - E[x]^2 cancels when the mean is large. Programs for TPUs, which are
    limited by memory, take one pass if they are told a value near the mean: it is subtracted before. Then the mean and
    the mean square are also summed over several chips by one message instead of two, one after the other. If `near` is
    d deviations from the mean, the float32 variance has a relative error of up to 2^-21 (1 + d^2): 5e-3 for d = 100, as
    in the first batch of a network with such means, and no more than 1e-6 once the running mean has come within one.

    axis_name: mapped axis (shard_map) to average over.
    near: (c,), such as the running mean; None if there is none.
    groups: number of groups of the b images of x (b, ..., c); a divisor of b, and 1 with an axis name.

    Raises ValueError for other groups.
    """
    if groups != 1 and (axis_name is not None or x.shape[0] % groups):
        raise ValueError(f"groups={groups} with axis_name={axis_name!r} of a batch of {x.shape[0]} images")
    x = _wide(x)
    if near is None or platform() != "tpu":
        mean = _shared(_means(x, groups), axis_name)
        return mean, _shared(_means(jnp.square(x - _for_images(mean, x)), groups), axis_name)
    x = x - near
    mean, square = _means(x, groups), _means(jnp.square(x), groups)
    if axis_name is not None:
        mean, square = lax.pmean((mean, square), axis_name)
    return near + mean, jnp.maximum(square - jnp.square(mean), 0)


def _shared(mean: Array, axis_name: str | None) -> Array:
    return mean if axis_name is None else lax.pmean(mean, axis_name)


def normalise(x: Array, mean: Array, var: Array, scale: Array, bias: Array, *, eps: float, dtype) -> Array:
    """Returns (x - mean) / sqrt(var + eps) * scale + bias, computed in float32 or wider, in dtype.

    x: (..., c), or (b, ..., c) with statistics of groups.
    mean, var: (c,), or of groups (g, c).
    scale, bias: (c,).
    """
    factor = scale * lax.rsqrt(var + eps)
    return (_wide(x) * _for_images(factor, x) + _for_images(bias - mean * factor, x)).astype(dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 7))
def batch_norm(
    x: Array, scale: Array, bias: Array, eps: float, dtype=jnp.float32, axis_name: str | None = None,
    near: Array | None = None, groups: int = 1,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Normalises x (..., c) by the statistics of the batch; returns (y (..., c) in dtype, mean (c,), variance (c,)).

    Several groups of images are normalised by the statistics of each, which are (groups, c).

    Mean and biased variance are for the running statistics: no gradient flows through them.

    scale, bias: (c,).
    axis_name: mapped axis (shard_map) over which statistics are shared.
    near: a value near the mean, see `batch_moments`; it gets no gradient.
    groups: number of groups, see `batch_moments`.

    Raises ValueError as `batch_moments` does.
    """
    mean, var = batch_moments(x, axis_name=axis_name, near=near, groups=groups)
    return normalise(x, mean, var, scale, bias, eps=eps, dtype=dtype), mean, var


def _forward(x, scale, bias, eps, dtype, axis_name, near, groups):
    y, mean, var = batch_norm(x, scale, bias, eps, dtype, axis_name, near, groups)
    # whether there is `near`, as an array without values: a residual must be an array
    return (y, mean, var), (x, mean, var, scale, None if near is None else jnp.zeros((0,)))


def _backward_of_batch(eps, dtype, axis_name, groups, saved, cotangents):
    *saved, near = saved
    gradients = _backward(eps, dtype, axis_name, saved, cotangents)
    return *gradients, None if near is None else jnp.zeros_like(gradients[1])


def _backward(eps, dtype, axis_name, saved, cotangents):
    # x - mean appears only once: XLA would share it between two uses, and so write and read one more array like x
    x, mean, var, scale = saved
    x, dy, inv, groups = _wide(x), _wide(cotangents[0]), lax.rsqrt(var + eps), _groups(mean)
    normal = x * _for_images(inv, x) - _for_images(mean * inv, x)
    dbias, dscale = _sums(dy, groups), _sums(dy * normal, groups)
    count = x.size // x.shape[-1] // groups
    mean_dy, mean_dyx = dbias / count, dscale / count
    if axis_name is not None:
        mean_dy, mean_dyx = lax.pmean((mean_dy, mean_dyx), axis_name)
    factor, slope = scale * inv, scale * jnp.square(inv) * mean_dyx
    dx = dy * _for_images(factor, x) - x * _for_images(slope, x) + _for_images(mean * slope - mean_dy * factor, x)
    if groups > 1:
        dscale, dbias = dscale.sum(0), dbias.sum(0)
    return dx.astype(saved[0].dtype), like_argument(dscale, scale), like_argument(dbias, scale)


batch_norm.defvjp(_forward, _backward_of_batch)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def batch_norm_again(
    x: Array, scale: Array, bias: Array, mean: Array, var: Array, eps: float, dtype=jnp.float32,
    axis_name: str | None = None,
) -> Array:  # fmt: skip
    """Returns y of `batch_norm` with the same gradient, for a batch whose statistics are known; saves their two passes.

    For a backward pass that computes a layer again.

    mean, var: that `batch_norm` returned for x, also those of groups; as there, no gradient flows through them.
    """
    return normalise(x, mean, var, scale, bias, eps=eps, dtype=dtype)


def _again_forward(x, scale, bias, mean, var, eps, dtype, axis_name):
    return normalise(x, mean, var, scale, bias, eps=eps, dtype=dtype), (x, mean, var, scale)


def _again_backward(eps, dtype, axis_name, saved, dy):
    # zeros made of the statistics vary over the same mapped axes as these
    return *_backward(eps, dtype, axis_name, saved, (dy,)), *(jnp.zeros_like(moment) for moment in saved[1:3])


batch_norm_again.defvjp(_again_forward, _again_backward)
