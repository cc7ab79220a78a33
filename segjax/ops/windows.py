"""What a window of a label map contains: sets of classes as bits, and boundaries. Cheap enough for every training step.

A set of k classes is ceil(k / 32) words of 32 bits, so that the union over a window is an `or` of shifted maps.
"""

from __future__ import annotations

import jax.numpy as jnp

from segjax.typing import Array


def class_bits(labels: Array, num_classes: int, *, ignore_label: int = 255) -> Array:
    """The set {label} of every pixel; empty where it is ignored or not a class.

    labels: (..., h, w) int. Returns (words, ..., h, w) uint32, class c in bit c % 32 of word c // 32.
    """
    labels = jnp.asarray(labels).astype(jnp.int32)
    real = (labels >= 0) & (labels < num_classes) & (labels != ignore_label)
    words = jnp.arange(-(-num_classes // 32)).reshape(-1, *[1] * labels.ndim)
    bit = jnp.left_shift(jnp.uint32(1), (labels % 32).astype(jnp.uint32))
    return jnp.where(real & (labels // 32 == words), bit, jnp.uint32(0))


def class_sets(labels: Array, num_classes: int, *, window: int = 3, ignore_label: int = 255) -> Array:
    """The classes in the window x window pixels around each pixel, clipped to the image: N(p) of VPLR, eq. (5).

    labels: (..., h, w) int. window: odd. Returns (words, ..., h, w) uint32, see `class_bits`.
    """
    return union(class_bits(labels, num_classes, ignore_label=ignore_label), window)


def union(bits: Array, window: int) -> Array:
    """Union of the sets in a window around each pixel; nothing lies outside the image. bits: (..., h, w) uint32."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and at least 1, got {window}")
    for axis in (-2, -1):
        bits = _spread(bits, window // 2, axis, jnp.uint32(0))
    return bits


def contains(bits: Array, num_classes: int) -> Array:
    """Sets as booleans: bits (words, ..., h, w) uint32 -> (..., h, w, k) bool."""
    classes = jnp.arange(num_classes)
    words = jnp.moveaxis(bits, 0, -1)[..., classes // 32]  # ... h w k
    return (words >> (classes % 32).astype(jnp.uint32)) & 1 != 0


def thick_boundaries(labels: Array) -> Array:
    """Pixels with a 4-neighbour of another label, on both sides, as skimage's find_boundaries(mode="thick").

    labels: (..., h, w) int. Returns (..., h, w) bool.
    """
    result = jnp.zeros(labels.shape, bool)
    for axis in (-2, -1):
        size = labels.shape[axis]
        if size < 2:
            continue
        first = jnp.take(labels, jnp.arange(size - 1), axis=axis)
        second = jnp.take(labels, jnp.arange(1, size), axis=axis)
        change = first != second
        edge = [(0, 0)] * labels.ndim
        for pad in ((0, 1), (1, 0)):
            edge[axis] = pad
            result |= jnp.pad(change, edge)
    return result


def _spread(bits: Array, reach: int, axis: int, empty: Array) -> Array:
    # or of the map shifted by -reach .. reach along one axis
    size = bits.shape[axis]
    edge = [(0, 0)] * bits.ndim
    edge[axis] = (reach, reach)
    padded = jnp.pad(bits, edge, constant_values=empty)
    result = bits
    for shift in range(2 * reach + 1):
        if shift != reach:
            index = [slice(None)] * bits.ndim
            index[axis] = slice(shift, shift + size)
            result = result | padded[tuple(index)]
    return result
