"""Boundary-aware loss: the closer to another class, the more a pixel weighs (SwiftNet pyramid; Orsic and Segvic, 2020).

The distance is the chamfer distance of OpenCV's 5x5 mask (steps of 1, 1.4 and 2.1969 pixels) in fixed-point numbers.
The published code makes one distance transform per class on the host; one for all classes, here on the device, gives
the same: a step to a neighbour of another class ends the path, and no path that goes on across it can be shorter.
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

ONE = 1 << 16  # distances are counted in 1/65536 pixel: sums are exact, whatever their order
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
    """weight * exp(gamma * (1 - p)) * -log p of the true class, p under stop_gradient, summed over the valid pixels.

    logits: (..., h, w, k) float. labels: (..., h, w) int; `ignore_label` and everything outside 0..k-1 is ignored, but
        is another class to its neighbours.
    distances, weights: a pixel nearer than distances[i] pixels to another class weighs weights[i]; the last weight is
        for all beyond. Distances are those of the image the labels show, so they go with the crop.
    gamma: how much hard pixels are stressed.

    Raises UserError for distances and weights that do not fit. Source: fact sheet of SwiftNet, 4.3.
    """
    k = logits.shape[-1]
    classes = jnp.where(is_class(labels, k, ignore_label), labels, k).astype(jnp.int32)
    valid = classes < k
    weight = boundary_weights(classes, distances=distances, weights=weights)
    value = nll(jnp.asarray(logits).astype(jnp.float32), classes)
    hardness = jnp.exp(gamma * (1 - jnp.exp(-lax.stop_gradient(value))))
    return Sum(jnp.where(valid, weight * hardness * value, 0.0).sum(), count_true(valid & (weight > 0)))


def boundary_weights(labels: Array, *, distances: Sequence[float], weights: Sequence[float]) -> jax.Array:
    """Weight of each pixel by its distance to the nearest one with another label, (..., h, w) float32.

    labels: (..., h, w) int, 0 or more. distances, weights: see `boundary_aware_cross_entropy`.
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
    """Chamfer distance to the nearest pixel with another label, (..., h, w) int32 in 1/65536 pixel; FAR without one.

    labels: (..., h, w) int, 0 or more. It is cv2.distanceTransform(labels == c, DIST_L2, 5) of each class c.
    Two passes over the rows, down and up; all columns and images at once.
    """
    labels = jnp.asarray(labels).astype(jnp.int32)
    down = _pass(labels, jnp.full(labels.shape, FAR, jnp.int32))
    return _pass(labels[..., ::-1, ::-1], down[..., ::-1, ::-1])[..., ::-1, ::-1]


def _pass(labels: jax.Array, distance: jax.Array) -> jax.Array:
    """Distances over paths of steps to earlier rows and, in a row, to the left; never above `distance`."""
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
        # min over j of value[i - j] + j; a run of one label begins with at most 1, so no other run reaches into it
        value = jnp.minimum(lax.cummin(value - index, axis=value.ndim - 1) + index, FAR)
        return ((label, value), above[0]), value

    rows = jnp.moveaxis(labels, -2, 0), jnp.moveaxis(distance, -2, 0)
    nothing = 0 * rows[0][0] + OUTSIDE, 0 * rows[0][0] + FAR  # varies over the devices of shard_map as the labels do
    return jnp.moveaxis(lax.scan(row, (nothing, nothing), rows)[1], 0, -2)


def _shifted(x: jax.Array, right: int, fill: int) -> jax.Array:
    """x[..., i + right] at i, and `fill` beyond the row."""
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(2, 2)], constant_values=fill)
    return lax.slice_in_dim(padded, 2 + right, 2 + right + x.shape[-1], axis=x.ndim - 1)
