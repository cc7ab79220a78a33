"""Classes in a pixel's neighbourhood: sets of classes as bitmasks, and boundaries between classes.

A set of classes is a column of uint32 words, (words, ..., h, w): class c is bit c % 32 of word c // 32. One more bit,
number `num_classes`, is void. A 3x3 window over 19 classes therefore takes 4 bytes per pixel instead of 20, and a few
OR instructions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.typing import Array


def class_sets(labels: Array, num_classes: int, *, window: int = 3, ignore_label: int = 255) -> jax.Array:
    """Returns the classes present in the window around each pixel, (words, ..., h, w) uint32.

    There are num_classes // 32 + 1 words. Source: VPLR, section 3.4, and its released code.

    labels: (..., h, w) int. Pixels with `ignore_label`, or outside 0..num_classes-1, are void, and so is everything
        outside the image.
    window: side of the square window in pixels, odd; 1 is the pixel alone.

    Raises ValueError for an even window.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window={window}: a window has a middle only if its side is odd, for example 3")
    ids = jnp.where(is_class(labels, num_classes, ignore_label), labels, num_classes).astype(jnp.uint32)
    words = []
    for j in range(num_classes // 32 + 1):
        one = jnp.where(ids >> 5 == j, jnp.uint32(1) << (ids & 31), jnp.uint32(0))
        outside = 1 << (num_classes & 31) if num_classes >> 5 == j else 0
        words.append(_or_along(_or_along(one, -1, window, outside), -2, window, outside))
    return jnp.stack(words)


def thick_boundaries(labels: Array) -> jax.Array:
    """Returns whether a pixel has a different label than one of its 4 neighbours, (..., h, w) int -> bool.

    Both sides of a boundary are true. Void is a label too; the edge of the image is not a boundary.
    The same as scikit-image's `find_boundaries(mode="thick")` with 4-connectivity.
    """

    def along(axis):
        n = labels.shape[axis]
        before, after = (jax.lax.slice_in_dim(labels, i, n - 1 + i, axis=axis) for i in (0, 1))
        differs = before != after
        return _pad(differs, axis, 1, 0, False) | _pad(differs, axis, 0, 1, False)

    labels = jnp.asarray(labels)
    return along(labels.ndim - 1) | along(labels.ndim - 2)


def is_class(labels: Array, num_classes: int, ignore_label: int = 255) -> jax.Array:
    """Returns whether labels (..., h, w) are in 0..num_classes-1 and not the ignore label; bool."""
    labels = jnp.asarray(labels)
    return (labels >= 0) & (labels < num_classes) & (labels != ignore_label)


def has_class(sets: Array, c: int) -> jax.Array:
    """Returns 1 if class c is in a set, else 0, for sets (words, ...); (...) uint32."""
    return (sets[c >> 5] >> (c & 31)) & 1


def set_size(sets: Array, num_classes: int) -> jax.Array:
    """Returns the number of classes in each set (words, ...), without void; (...) int32."""
    masks = [(1 << min(32, max(0, num_classes - 32 * j))) - 1 for j in range(sets.shape[0])]
    return sum(jax.lax.population_count(word & jnp.uint32(mask)).astype(jnp.int32) for word, mask in zip(sets, masks))


def _or_along(x, axis, window, outside):
    """Returns the OR over `window` neighbours along an axis; values outside the array are `outside`."""
    axis %= x.ndim
    padded = _pad(x, axis, window // 2, window // 2, outside)
    result = None
    for i in range(window):
        shifted = jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis)
        result = shifted if result is None else result | shifted
    return result


def _pad(x, axis, before, after, value):
    widths = [(before, after, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
    return jax.lax.pad(x, jnp.array(value, x.dtype), widths)
