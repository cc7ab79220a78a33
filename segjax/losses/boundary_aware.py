"""Boundary-aware loss: pixels near another class weigh more (SwiftNet pyramid; Orsic and Segvic, 2020).

The distance is the chamfer distance of OpenCV's 5x5 mask (steps of 1, 1.4 and 2.1969 pixels), in fixed-point numbers.
The published code computes one distance transform per class on the host. One transform for all classes, on the device,
has the same result: a path ends at its first step to another class, and no path beyond can be shorter.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from segjax.errors import UserError
from segjax.losses.cross_entropy import count_true
from segjax.losses.negative_log import nll
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum

ONE = 1 << 16  # unit of distances is 1/65536 pixel: sums of integers are exact in any order
STRAIGHT, DIAGONAL, KNIGHT = ONE, round(1.4 * ONE), round(2.1969 * ONE)
FAR = 1 << 30
# (rows up, columns to the right, length) of the steps that end in an earlier row
STEPS = ((1, 0, STRAIGHT), (1, -1, DIAGONAL), (1, 1, DIAGONAL), (1, -2, KNIGHT), (1, 2, KNIGHT), (2, -1, KNIGHT),
         (2, 1, KNIGHT))  # fmt: skip
OUTSIDE = -1  # label of pixels beyond the image, which are of no class


def boundary_aware_cross_entropy(
    logits: Array,
    labels: Array,
    ignore_label: int = 255,
    *,
    distances: Sequence[float] = (16, 64, 128),
    weights: Sequence[float] = (8, 4, 2, 1),
    gamma: float = 0.5,
) -> Sum:
    """Returns weight * exp(gamma * (1 - p)) * -log p of the true class, summed over the valid pixels.

    The factor exp(gamma * (1 - p)) has no gradient.

    logits: (..., h, w, k) float.
    labels: (..., h, w) int; ignored are `ignore_label` and labels outside 0..k-1, which are another class to their
        neighbours.
    ignore_label: label of pixels that do not count.
    distances: rising, in pixels of the labels, that is of the crop.
    weights: a pixel nearer than distances[i] to another class weighs weights[i]; the last weight is for all others.
    gamma: emphasis on pixels with small p; 0 for none.

    Raises UserError for distances and weights that do not fit. Defaults: code released with SwiftNet (orsic/swiftnet).
    """
    k = logits.shape[-1]
    classes = jnp.where(is_class(labels, k, ignore_label), labels, k).astype(jnp.int32)
    valid = classes < k
    weight = boundary_weights(classes, distances=distances, weights=weights)
    value = nll(jnp.asarray(logits).astype(jnp.float32), classes)
    hardness = jnp.exp(gamma * (1 - jnp.exp(-lax.stop_gradient(value))))
    return Sum(jnp.where(valid, weight * hardness * value, 0.0).sum(), count_true(valid & (weight > 0)))


def boundary_weights(labels: Array, *, distances: Sequence[float], weights: Sequence[float]) -> jax.Array:
    """Returns the weight of each pixel by its distance to another label, (..., h, w) float32.

    labels: (..., h, w) int, 0 or more.
    distances, weights: see `boundary_aware_cross_entropy`.

    Raises UserError for distances and weights that do not fit.
    """
    if list(distances) != sorted(set(distances)) or len(weights) != len(distances) + 1 or min(weights) < 0:
        raise UserError(
            f"boundary_aware_cross_entropy: distances={tuple(distances)} must rise, and weights={tuple(weights)} have "
            "one number of at least 0 for each, and one for all beyond."
        )
    distance = distance_to_other_label(labels)
    result = jnp.full(distance.shape, weights[-1], jnp.float32)
    for limit, weight in reversed(list(zip(distances, weights))):
        result = jnp.where(distance < limit * ONE, jnp.float32(weight), result)
    return result


def distance_to_other_label(labels: Array) -> jax.Array:
    """Returns the chamfer distance to the nearest other label, (..., h, w) int32 in 1/65536 pixel; FAR without one.

    Equals cv2.distanceTransform(labels == c, DIST_L2, 5) for the pixels of each class c. Two passes over the rows, down
    and up, for all columns and images at once.

    labels: (..., h, w) int, 0 or more.
    """
    labels = jnp.asarray(labels).astype(jnp.int32)
    down = _pass(labels, jnp.full(labels.shape, FAR, jnp.int32))
    return _pass(labels[..., ::-1, ::-1], down[..., ::-1, ::-1])[..., ::-1, ::-1]


def _pass(labels: jax.Array, distance: jax.Array) -> jax.Array:
    """Returns distances over paths of steps to earlier rows and, in a row, to the left; at most `distance`."""
    columns = labels.shape[-1]
    index = jnp.arange(columns, dtype=jnp.int32) * STRAIGHT

    def row(above, now):
        # above: (labels, distances) of the two rows before, nearest first
        label, value = now
        for up, right, length in STEPS:
            their_label, theirs = (_shifted(x, right, fill) for x, fill in zip(above[up - 1], (OUTSIDE, FAR)))
            same = their_label == label
            inside = their_label != OUTSIDE
            value = jnp.minimum(value, jnp.where(same, theirs + length, jnp.where(inside, length, FAR)))
        left = _shifted(label, -1, OUTSIDE)
        value = jnp.where((left != label) & (left != OUTSIDE), jnp.minimum(value, STRAIGHT), value)
        # min over j of value[i - j] + j; the first pixel of a run of one label has at most 1, so no minimum comes from
        # another run
        value = jnp.minimum(lax.cummin(value - index, axis=value.ndim - 1) + index, FAR)
        return ((label, value), above[0]), value

    rows = jnp.moveaxis(labels, -2, 0), jnp.moveaxis(distance, -2, 0)
    nothing = 0 * rows[0][0] + OUTSIDE, 0 * rows[0][0] + FAR  # varies over the devices of shard_map as the labels do
    return jnp.moveaxis(lax.scan(row, (nothing, nothing), rows)[1], 0, -2)


def _shifted(x: jax.Array, right: int, fill: int) -> jax.Array:
    """Returns x[..., i + right] at i, and `fill` beyond the row."""
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(2, 2)], constant_values=fill)
    return lax.slice_in_dim(padded, 2 + right, 2 + right + x.shape[-1], axis=x.ndim - 1)
