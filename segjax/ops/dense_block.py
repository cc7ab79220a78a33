"""A dense block in one buffer: each layer reads the channels before its own and writes its own, forward and backward.

A dense layer appends `growth` channels to its input (Huang et al., CVPR 2017, section 3). Written with concatenations,
training keeps every joined map: memory grows with the square of the number of layers. `jax.checkpoint` over each layer
frees these maps, but not their gradients: that of an early map stays as one slice of the full-width gradient of every
later layer until all are summed.

Here the block has one buffer of its final width. The backward pass goes through the layers in reverse order. It
computes a layer again from a slice of that buffer, and adds its gradient to a slice of a second buffer. A barrier
between layers keeps the compiler from merging this with the forward pass, and from working on several layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.activation import relu
from segjax.ops.batch_norm import batch_norm, batch_norm_again
from segjax.ops.conv import conv2d
from segjax.ops.dropout import dropout
from segjax.typing import Array

Pair = tuple[Array, Array]


class DenseLeaves(NamedTuple):
    """Parameters of a dense layer: norm, ReLU, 1x1 convolution, norm, ReLU, 3x3 convolution to `growth` channels.

    norm1, norm2: (scale, bias), each (c,).
    conv1, conv2: kernels (1, 1, c, d) and (3, 3, d, growth).

    A layer without the first convolution has no norm1 and no conv1, and norm2 is the norm of its input.
    """

    norm1: Pair | None
    conv1: Array | None
    norm2: Pair
    conv2: Array


class DenseMoments(NamedTuple):
    """Statistics of the batch in a dense layer's norms: (mean, biased variance), each (c,); of groups (groups, c)."""

    norm1: Pair | None
    norm2: Pair


class DenseNear(NamedTuple):
    """Values near the means of a dense layer's norms, (c,), such as the running means, see `batch_moments`."""

    norm1: Array | None
    norm2: Array | None


class DenseSettings(NamedTuple):
    """Settings of a dense block, not differentiated.

    eps: of the norms.
    dtype: of the computation.
    dilation: of the 3x3 convolutions.
    dropout: rate after each layer.
    axis_name: mapped axis over which statistics are shared, see `batch_norm`.
    groups: of images with statistics of their own, see `batch_norm`.
    """

    eps: float
    dtype: Any = jnp.float32
    dilation: int = 1
    dropout: float = 0.0
    axis_name: str | None = None
    groups: int = 1


NOT_NEAR = DenseNear(None, None)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def dense_block(
    x: Array,
    layers: Sequence[DenseLeaves],
    keys: Sequence[Array | None],
    near: Sequence[DenseNear],
    settings: DenseSettings,
) -> tuple[Array, list[DenseMoments]]:
    """Returns (x with the channels of all layers (b, h, w, c + n growth), statistics of each layer's norms).

    The norms use the statistics of the batch, through which no gradient flows when they are returned.

    x: (b, h, w, c).
    layers: parameters of the n layers.
    keys: of each layer's dropout; None for a layer without.
    near: of each layer, values near the means of its norms; they get no gradient.
    settings: see `DenseSettings`.
    """
    x, moments = x.astype(settings.dtype), []
    first, total = x.shape[-1], x.shape[-1] + sum(leaves.conv2.shape[-1] for leaves in layers)
    buffer = jnp.pad(x, ((0, 0),) * 3 + ((0, total - first),))
    for leaves, key, own in zip(layers, keys, near, strict=True):
        y, found = dense_layer(buffer[..., :first], leaves, key, own, settings)
        buffer = lax.dynamic_update_slice_in_dim(buffer, y, first, axis=-1)
        first += y.shape[-1]
        moments.append(found)
    return buffer, moments


def dense_layer(
    x: Array,
    leaves: DenseLeaves,
    key: Array | None,
    near: DenseNear,
    settings: DenseSettings,
    known: DenseMoments | None = None,
) -> tuple[Array, DenseMoments]:
    """Returns (new channels (b, h, w, growth) of a dense layer, statistics of its norms).

    x: (b, h, w, c).
    near: values near the means of its norms.
    known: statistics of x's batch if they were computed before.
    """

    def activate(x, norm, moments, near):
        options = settings.eps, settings.dtype, settings.axis_name
        if moments is None:
            y, *moments = batch_norm(x, *norm, *options, near, settings.groups)
        else:
            y = batch_norm_again(x, *norm, *moments, *options)
        return relu(y), tuple(moments)

    moments1, moments2 = known or (None, None)
    if leaves.conv1 is not None:
        x, moments1 = activate(x, leaves.norm1, moments1, near.norm1)
        x = conv2d(x, leaves.conv1.astype(settings.dtype))
    x, moments2 = activate(x, leaves.norm2, moments2, near.norm2)
    y = conv2d(x, leaves.conv2.astype(settings.dtype), padding=settings.dilation, dilation=settings.dilation)
    if key is not None:
        y = dropout(y, key, settings.dropout)
    return y, DenseMoments(moments1, moments2)


def _forward(x, layers, keys, near, settings):
    buffer, moments = dense_block(x, layers, keys, near, settings)
    # the type of x in an array without values: a residual must be an array
    return (buffer, moments), (buffer, moments, layers, keys, near, jnp.zeros((0, x.shape[-1]), x.dtype))


def _backward(settings, saved, cotangents):
    buffer, moments, layers, keys, near, like_x = saved
    gradient, end, gradients = cotangents[0], buffer.shape[-1], []
    for leaves, known, key in zip(reversed(layers), reversed(moments), reversed(keys)):
        # A layer starts when the gradients of the one before it here are complete, and its activations are free. The
        # barrier's copies of the parameters' gradients are not used: inside shard_map they would vary over the devices.
        buffer, gradient, _ = lax.optimization_barrier((buffer, gradient, gradients[:1]))
        start = end - leaves.conv2.shape[-1]

        def again(x, leaves, key=key, known=known):
            return dense_layer(x, leaves, key, NOT_NEAR, settings, known)[0]

        _, backward = jax.vjp(again, buffer[..., :start], leaves)
        dx, dleaves = backward(gradient[..., start:end])
        gradient = lax.dynamic_update_slice_in_dim(gradient, gradient[..., :start] + dx, 0, axis=-1)
        gradients, end = [dleaves, *gradients], start
    dx, no_gradient = gradient[..., :end].astype(like_x.dtype), jax.tree.map(jnp.zeros_like, near)
    return dx, type(layers)(gradients), None, no_gradient


dense_block.defvjp(_forward, _backward)
