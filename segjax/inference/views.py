"""Logits of whole images: one window or many, one scale or many, with or without the mirror image.

All of it is one loop over views of the image. A view is a rectangle of the image, resized and perhaps mirrored, that
the network sees in one call. The view of a whole image is the largest one. The views of one scale run one after the
other in a `lax.scan`. So the network is compiled once per scale, and memory does not grow with the number of tiles.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax import ops
from segjax.errors import UserError
from segjax.typing import Array

Average = Literal["logits", "probabilities"]
EPSILON = 1e-9  # 900 * (1 - 1/3) is 600.0000000000001 in floating point; the stride is 600


def tile_starts(length: int, window: int, overlap: float = 1 / 3) -> list[int]:
    """Returns the first pixels of the tiles along one axis: equal strides, the last tile shifted back into the image.

    The stride is ceil(window * (1 - overlap)), as in the VPLR release: windows of 1024 in 2048 pixels start at 0, 683
    and 1024.

    length: of the image, pixels.
    window: of a tile, pixels; a window larger than the image gives one tile.
    overlap: share of the window that two neighbouring tiles have in common, [0, 1).
    """
    if window >= length:
        return [0]
    stride = math.ceil(window * (1 - overlap) - EPSILON)
    count = math.ceil((length - window) / stride) + 1
    return [min(i * stride, length - window) for i in range(count)]


def predict(
    apply_fn: Callable[[Array], Any],
    images: Array,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: tuple[int, int] | None = None,
    overlap: float = 1 / 3,
    average: Average = "logits",
    multiple: int = 1,
    base_size: tuple[int, int] | None = None,
) -> Any:
    """Returns the mean logits over scales, mirror images and overlapping windows, at the size of the images.

    The result is (b, h, w, k) float32, probabilities if average="probabilities". Under jit, everything but apply_fn and
    images is static, and each image size compiles once.

    apply_fn: images (b, h', w', 3) float32 -> logits (b, h', w', k), for any h', w'. Or a tree of them, such as the
        logits of several heads: the result is then such a tree, from one forward pass per view.
    images: (b, h, w, 3) float32, normalised for the network.
    scales: factors by which images are resized (bilinear, antialiased when shrinking); the logits are resized back.
    flip: whether to average with the logits of the mirror image.
    window: (h, w) in pixels, None = whole image. At a scale s > 1 the window grows with the image to int(window * s). A
        window larger than the image shrinks to it. Each pixel of a scale is the mean of the tiles over it; then scales
        and mirror images have equal weights.
    overlap: share of the window that two neighbouring tiles have in common.
    average: quantity to average over scales and mirror images: "logits", or "probabilities" (softmax at the size of the
        images). Tiles of one view are always averaged in logits.
    multiple: the sides of every scale are rounded up to a multiple of this (LDN: 64).
    base_size: (h, w) that images are resized to first (bicubic, antialiased). The result is resized back by nearest
        neighbour, as in the VPLR release for KITTI.

    Raises UserError for impossible options, images of another rank, and images with nan or infinity, unless they are
    being traced.
    Source: Zhu et al., CVPR 2019 (VPLR), sliding evaluation; its count of tiles per pixel is corrected here.
    """
    check_views(scales=scales, window=window, overlap=overlap, average=average, multiple=multiple, base_size=base_size)
    if images.ndim != 4:
        raise UserError(f"images of shape {images.shape} are no batch; give (batch, height, width, 3).")
    check_finite(images)
    scales = tuple(float(s) for s in scales)

    full_size = tuple(images.shape[1:3])
    if base_size is not None:
        images = ops.resize(images, tuple(base_size), method="bicubic", antialias=True)
    size = tuple(images.shape[1:3])
    total, count = None, 0
    add = lambda total, part: part if total is None else jax.tree.map(jnp.add, total, part)  # noqa: E731
    for scale in scales:
        scaled_size = tuple(multiple * math.ceil(max(1, int(n * scale + EPSILON)) / multiple) for n in size)
        scaled_window = scaled_size if window is None else tuple(int(n * max(scale, 1.0) + EPSILON) for n in window)
        scaled = images if scaled_size == size else ops.resize(images, scaled_size, antialias=True)
        if average == "logits":  # the mean is linear, so both mirror images share one loop
            logits = _mean_over_views(apply_fn, scaled, scaled_window, overlap, flip)
            if scaled_size != size:
                logits = jax.tree.map(lambda x: ops.resize(x, size), logits)
            total, count = add(total, logits), count + 1
            continue
        for mirrored in (False, True)[: 1 + flip]:
            view = scaled[:, :, ::-1] if mirrored else scaled
            logits = _mean_over_views(apply_fn, view, scaled_window, overlap, False)
            turned = jax.tree.map(lambda x: x[:, :, ::-1], logits) if mirrored else logits
            shares = jax.tree.map(lambda x: jax.nn.softmax(ops.resize(x, size)), turned)
            total, count = add(total, shares), count + 1
    total = jax.tree.map(lambda x: x / count, total)
    if size == full_size:
        return total
    return jax.tree.map(lambda x: ops.resize(x, full_size, method="nearest"), total)


def check_views(
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: tuple[int, int] | None = None,
    overlap: float = 1 / 3,
    average: Average = "logits",
    multiple: int = 1,
    base_size: tuple[int, int] | None = None,
) -> None:
    """Raises UserError for options that `predict` accepts for no image."""
    if isinstance(scales, (str, float, int)) or not scales or not all(_number(s) and 0 < s < math.inf for s in scales):
        raise UserError(f"scales={scales!r} must hold at least one number, all above 0.")
    if not isinstance(flip, bool):
        raise UserError(f"flip={flip!r} must be True or False.")
    if not _number(overlap) or not 0 <= overlap < 1:
        raise UserError(f"overlap={overlap!r} must be a number of 0 or more and below 1.")
    for name, size in (("window", window), ("base_size", base_size)):
        pair = isinstance(size, (tuple, list)) and len(size) == 2
        if size is not None and not (pair and all(isinstance(n, numbers.Integral) and n > 0 for n in size)):
            raise UserError(f"{name}={size!r} must be two whole numbers above 0, (height, width).")
    if not isinstance(multiple, numbers.Integral) or multiple < 1:
        raise UserError(f"multiple={multiple!r} must be a whole number of 1 or more.")
    if average not in ("logits", "probabilities"):
        raise UserError(f"average={average!r} must be 'logits' or 'probabilities'.")


def is_one_view(**options: Any) -> bool:
    """Returns whether `predict` with these options returns the logits of one forward pass, as they are.

    Raises UserError as `check_views` does.
    """
    check_views(**options)
    usual = dict(flip=False, window=None, average="logits", multiple=1, base_size=None)
    plain = all(options.get(name, value) == value for name, value in usual.items())
    return plain and tuple(options.get("scales", (1.0,))) == (1.0,)


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _mean_over_views(apply_fn, images: Array, window: tuple[int, int], overlap: float, flip: bool) -> Any:
    """Returns the mean logits (b, h, w, k) float32 of one scale, or a tree of them, see `predict`.

    images: (b, h, w, c). window: (h, w) in its pixels.
    """
    b, h, w, c = images.shape
    th, tw = min(window[0], h), min(window[1], w)
    if (th, tw) == (h, w) and not flip:  # a whole image needs no tiles; most evaluations are of this kind
        return jax.tree.map(lambda logits: _checked(logits, (b, h, w)), apply_fn(images))
    rows, columns = tile_starts(h, th, overlap), tile_starts(w, tw, overlap)
    # A tile at x of the mirror image is the mirrored tile at w - tw - x of the image. So only tiles are mirrored, and
    # there is no second copy of the image.
    views = [(y, x, 0) for y in rows for x in columns]
    weight_y = _share(rows, th, h)
    weight_x = _share(columns, tw, w)[None]
    if flip:
        views += [(y, w - tw - x, 1) for y in rows for x in columns]
        weight_x = np.stack([weight_x[0], weight_x[0, ::-1]]) / 2
    weight_y, weight_x = jnp.asarray(weight_y), jnp.asarray(weight_x)

    tile_shape = jax.ShapeDtypeStruct((b, th, tw, c), images.dtype)
    shapes = jax.eval_shape(apply_fn, tile_shape)

    def add_view(total, view):
        y, x, mirrored = view
        tile = lax.dynamic_slice(images, (0, y, x, 0), (b, th, tw, c))
        if flip:
            tile = lax.select(jnp.broadcast_to(mirrored == 1, tile.shape), tile[:, :, ::-1], tile)
        return jax.tree.map(functools.partial(add_logits, view), total, apply_fn(tile)), None

    def add_logits(view, total, logits):
        y, x, mirrored = view
        logits = _checked(logits, (b, th, tw))
        if flip:
            logits = lax.select(jnp.broadcast_to(mirrored == 1, logits.shape), logits[:, :, ::-1], logits)
        share_y = lax.dynamic_slice(weight_y, (y,), (th,))
        share_x = lax.dynamic_slice(weight_x, (mirrored, x), (1, tw))[0]
        logits = logits * (share_y[:, None] * share_x)[:, :, None]
        there = lax.dynamic_slice(total, (0, y, x, 0), logits.shape)
        return lax.dynamic_update_slice(total, there + logits, (0, y, x, 0))

    total = jax.tree.map(lambda logits: jnp.zeros((b, h, w, logits.shape[-1]), jnp.float32), shapes)
    return lax.scan(add_view, total, tuple(jnp.asarray(v, jnp.int32) for v in zip(*views)))[0]


def _checked(logits: Array, shape: tuple[int, int, int]) -> Array:
    """Returns logits in float32. Raises ValueError unless they have the size (b, h, w) of the network's input."""
    if logits.shape[:3] != shape:
        raise ValueError(f"apply_fn must return logits at the size of its input {shape}, got {logits.shape}")
    return logits.astype(jnp.float32)


def _share(starts: Sequence[int], window: int, length: int) -> np.ndarray:
    """Returns 1 / number of tiles over each pixel of one axis, (length,) float32.

    The number of tiles over a pixel of the image is the product over both axes.
    """
    count = np.zeros(length, np.float32)
    for start in starts:
        count[start : start + window] += 1
    return 1 / count


def check_finite(images: Array) -> None:
    """Raises UserError if float images (b, ..) contain nan or infinity; the error names the first such image.

    One nan would spread over the whole prediction through global pooling. Integers are finite, and traced images have
    no values yet: both are skipped at no cost. The networks check shape and dtype.
    """
    if isinstance(images, jax.core.Tracer) or not np.issubdtype(images.dtype, np.floating):
        return
    bad = ~np.isfinite(np.asarray(images))
    if bad.any():
        first = int(np.argmax(bad.any(axis=tuple(range(1, bad.ndim)))))
        raise UserError(
            f"image {first} of the batch contains {int(bad[first].sum())} values that are nan or infinite; "
            "repair or skip the image."
        )
