"""Crops that are cut, scaled and mirrored on the device; one example per function, positions in pixel edges.

Scaling is separable, so an image is resampled by two matrix products, without a gather. Accelerators are fastest at
these, and XLA shards them over the batch without communication.
"""

from __future__ import annotations

import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.typing import Array


def _triangle(x: Array) -> Array:
    return jnp.maximum(0.0, 1.0 - jnp.abs(x))


def _cubic(x: Array) -> Array:
    # Keys (1981) with a = -0.5, as in PIL; OpenCV and PyTorch have -0.75
    x = jnp.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1.0, near, jnp.where(x < 2.0, far, 0.0))


KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


def sample_positions(low: Array, high: Array, size: int, flip: Array | bool = False) -> Array:
    """Returns the positions of a crop's pixels in the window, (size,) float32: the centres of equal parts of low..high.

    low, high: edges of the crop in the window, in pixels.
    size: pixels of the crop.
    flip: whether the positions are mirrored.
    """
    steps = jnp.arange(size, dtype=jnp.float32) + 0.5
    steps = jnp.where(flip, size - steps, steps)
    return low + steps * ((high - low) / size)


def resample_weights(
    positions: Array,
    step: Array,
    length: int,
    first: Array,
    end: Array,
    *,
    method: str = "bilinear",
    antialias: bool = True,
) -> Array:
    """Returns the weights of source pixels for each sample, (n, length); each row sums to 1.

    positions: (n,), of the samples, in pixel edges.
    step: source pixels per sample.
    length: number of source pixels.
    first, end: edges between which source pixels are used; samples beyond repeat the nearest of these.
    method: "bilinear" or "bicubic".
    antialias: whether the kernel is as wide as step if step > 1 (as in PIL, and in torch with antialias=True).

    Raises UserError for an unknown method.
    """
    if method not in KERNELS:
        raise UserError(f"augment.method={method!r} is not known.{did_you_mean(method, KERNELS)}")
    width = jnp.maximum(step, 1.0) if antialias else 1.0
    centers = jnp.arange(length, dtype=jnp.float32) + 0.5
    positions = jnp.clip(positions, first, end)
    weights = KERNELS[method]((centers - positions[:, None]) / width)
    weights = jnp.where((centers > first) & (centers < end), weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def crop_resize(
    image: Array,
    *,
    extent: Array,
    box: Array,
    size: tuple[int, int],
    flip: Array | bool = False,
    method: str = "bilinear",
    antialias: bool = True,
) -> tuple[Array, ...]:
    """Returns a box of an image, resampled: c planes, (h, w) float32 each, in the image's units.

    image: window, (H, W, c) uint8 or float.
    extent: (4,) y0, x0, y1, x1 of the image in the window, in pixel edges. Outside of it the image's border is
        repeated, so that padding never mixes with pixels; `covered` returns the pixels inside.
    box: (4,) y0, x0, y1, x1 of the crop in the window, in pixel edges.
    size: (h, w) in pixels.
    flip: whether to mirror.
    method, antialias: see `resample_weights`.

    Raises UserError for an unknown method.
    """
    height, width = size
    rows, columns, channels = image.shape
    options = dict(method=method, antialias=antialias)
    y = sample_positions(box[0], box[2], height)
    x = sample_positions(box[1], box[3], width, flip)
    down = resample_weights(y, (box[2] - box[0]) / height, rows, extent[0], extent[2], **options)
    across = resample_weights(x, (box[3] - box[1]) / width, columns, extent[1], extent[3], **options)
    planes = [
        # float32 products everywhere: TPUs and newer GPUs would round the operands by default
        jnp.matmul(
            jnp.matmul(down, image[..., c].astype(jnp.float32), precision="highest"), across.T, precision="highest"
        )
        for c in range(channels)
    ]
    return tuple(jnp.clip(plane, 0.0, 255.0) if method == "bicubic" else plane for plane in planes)


def covered(*, extent: Array, box: Array, size: tuple[int, int], flip: Array | bool = False) -> Array:
    """Returns which pixels of the crop show the image, (h, w) bool; the others are padding. See `crop_resize`."""
    y = sample_positions(box[0], box[2], size[0])
    x = sample_positions(box[1], box[3], size[1], flip)
    rows = (y >= extent[0]) & (y < extent[2])
    columns = (x >= extent[1]) & (x < extent[3])
    return rows[:, None] & columns


def crop_label(
    label: Array,
    *,
    extent: Array,
    box: Array,
    size: tuple[int, int],
    flip: Array | bool = False,
    ignore_label: int = 255,
) -> Array:
    """Returns a box of a label, (h, w) or (h, w, n) int32, by the nearest source pixel; ignore_label in padding.

    label: window, (H, W) or (H, W, n) int. The other arguments are those of `crop_resize`.
    """
    rows = jnp.floor(sample_positions(box[0], box[2], size[0])).astype(jnp.int32)
    columns = jnp.floor(sample_positions(box[1], box[3], size[1], flip)).astype(jnp.int32)
    values = jnp.take(jnp.take(label, rows, axis=0, mode="clip"), columns, axis=1, mode="clip").astype(jnp.int32)
    inside = covered(extent=extent, box=box, size=size, flip=flip)
    return jnp.where(inside.reshape(inside.shape + (1,) * (values.ndim - 2)), values, ignore_label)
