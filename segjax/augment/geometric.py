"""Cuts, scales and mirrors a crop on the device. One example per function, positions in pixel edges.

Everything is separable, so an image is resampled by two matrix products and no gather: an accelerator is at its best
there, and XLA shards them over the batch without communication.
"""

from __future__ import annotations

import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.typing import Array


def _triangle(x: Array) -> Array:
    return jnp.maximum(0.0, 1.0 - jnp.abs(x))


def _cubic(x: Array) -> Array:
    # Keys (1981) with a = -0.5, as PIL; OpenCV and PyTorch take -0.75
    x = jnp.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1.0, near, jnp.where(x < 2.0, far, 0.0))


KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


def sample_positions(low: Array, high: Array, size: int, flip: Array | bool = False) -> Array:
    """Where the pixels of a crop lie in the window, float32 (size,): low .. high in equal parts, mirrored or not."""
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
    """Weights (n, length) of the source pixels for samples at positions (n,); each row sums to 1.

    step: source pixels per sample. antialias: when step > 1 the kernel is as wide as step (PIL, torch antialias=True).
    first, end: only the source pixels between these edges are used; samples outside repeat the nearest of them.
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
    """The box of an image, resampled: uint8 or float (H, W, c) -> c planes float32 (h, w), in the same units.

    extent, box: (4,) y0, x0, y1, x1 in the window, pixel edges. Outside of the extent the image's border is repeated,
    so that padding never mixes with pixels; `covered` tells where. method: "bilinear" or "bicubic".
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
    """Which pixels of the crop show the image, bool (h, w); the others are padding."""
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
    """The box of a label (H, W), each pixel that of the nearest source pixel: int32 (h, w); ignore_label in padding."""
    rows = jnp.floor(sample_positions(box[0], box[2], size[0])).astype(jnp.int32)
    columns = jnp.floor(sample_positions(box[1], box[3], size[1], flip)).astype(jnp.int32)
    values = jnp.take(jnp.take(label, rows, axis=0, mode="clip"), columns, axis=1, mode="clip").astype(jnp.int32)
    return jnp.where(covered(extent=extent, box=box, size=size, flip=flip), values, ignore_label)
