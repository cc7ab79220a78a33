"""Confusion matrix on the device, in exact integers."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from einops import rearrange

from segjax.ops.platform import platform
from segjax.typing import Array

PIECE = 1 << 22  # pixels whose one-hot rows exist at the same time; below 2^24, so that float32 counts them exactly


def confusion_matrix(
    prediction: Array, labels: Array, num_classes: int, *, ignore_label: int = 255, weight: Array | None = None
) -> jax.Array:
    """Returns the pixels by true class (row) and predicted class (column), (k, k) int32, exact up to 2^31 pixels.

    On CPU it is a histogram: 7 ms for 1M pixels of 19 classes, against 52 ms as a product in int8 and 264 ms in
    float32. On other platforms, whose scatters are slow, it is a product of one-hot rows. If the pixels are spread over
    devices, either form communicates only sums of (k, k).

    prediction, labels: (..., h, w) int of one shape. A pixel counts if its label is a class and not `ignore_label`, and
        its prediction is a class.
    num_classes: k.
    weight: (b,) for the first axis. Rows of weight 0 (padding) do not count; all others count once.
    """
    labels, prediction = jnp.asarray(labels).astype(jnp.int32), jnp.asarray(prediction).astype(jnp.int32)
    k = num_classes
    counts = (labels != ignore_label) & (labels >= 0) & (labels < k) & (prediction >= 0) & (prediction < k)
    if weight is not None:
        counts &= jnp.asarray(weight).reshape(-1, *[1] * (labels.ndim - 1)) > 0
    count = histogram_counts if platform() == "cpu" else one_hot_counts
    return count(prediction, jnp.where(counts, labels, k), k)


def histogram_counts(prediction: Array, labels: Array, num_classes: int) -> jax.Array:
    """Returns the counts (k, k) int32 by a scatter.

    prediction, labels: (..., h, w) int32; label k if a pixel does not count.
    """
    k = num_classes
    cells = jnp.where(labels < k, labels * k + prediction, k * k)
    # no reshape(-1) as for bincount: if height is spread over devices, that would gather the whole map
    return jnp.zeros(k * k + 1, jnp.int32).at[cells].add(1)[:-1].reshape(k, k)


def one_hot_counts(prediction: Array, labels: Array, num_classes: int) -> jax.Array:
    """Returns the same counts by products of one-hot rows, exact in bfloat16 with float32 sums.

    The width is cut into pieces, because the batch and the height may be spread over devices.
    """
    k = num_classes
    w = labels.shape[-1]
    pieces = min(w, math.ceil(labels.size / PIECE))
    wide = math.ceil(w / pieces)

    def cut(x, fill):
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, pieces * wide - w)], constant_values=fill)
        return rearrange(x, "... (pieces wide) -> pieces ... wide", wide=wide)

    def add(matrix, piece):
        truth, guess = ((x[..., None] == jnp.arange(k)).astype(jnp.bfloat16) for x in piece)
        counts = jnp.einsum("...i,...j->ij", truth, guess, preferred_element_type=jnp.float32)
        return matrix + counts.astype(jnp.int32), None

    matrix = jnp.zeros((k, k), jnp.int32)
    return jax.lax.scan(add, matrix, (cut(labels, k), cut(prediction, 0)))[0]
