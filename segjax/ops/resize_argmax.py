"""Class ids of enlarged logits, without the enlarged logits: argmax(resize(x)) with a running maximum over the classes.

At 2048x1024 pixels and 19 classes the enlarged logits have 152 MiB; how long both ways take: benchmarks/class_ids.py.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.platform import platform
from segjax.ops.resize import _PRECISION, _columns, bilinear_taps, resize_matrix
from segjax.typing import Array

BLOCK_BYTES = 2**26  # of the values that are in memory at once


def resize_argmax(logits: Array, size: tuple[int, int], *, align_corners: bool) -> Array:
    """Returns argmax(resize(logits, size)), class ids (b, *size), uint8, int32 for more than 255 classes.

    Of equals, the first class. The values that are compared are those of `resize`, in float32 at least.

    logits: (b, h, w, k) floats.
    size: rows and columns of the result.
    align_corners: see `resize`.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if logits.shape[1:3] == tuple(size):
        return jnp.argmax(logits, axis=-1).astype(ids_dtype(logits.shape[-1]))
    by = _by_products if platform() == "tpu" else _by_taps  # a TPU multiplies faster than it gathers
    return by(logits, tuple(size), align_corners)


def ids_dtype(classes: int) -> type:
    """Returns the dtype of class ids."""
    return jnp.uint8 if classes < 256 else jnp.int32


def _by_taps(x: Array, size: tuple[int, int], align_corners: bool) -> Array:
    b, h, w, k = x.shape
    rows, columns = (bilinear_taps(old, new, align_corners) for old, new in zip((h, w), size))
    x = x.transpose(0, 3, 2, 1)  # b k w h: neighbouring rows of the result are neighbours in memory
    (left, right, share), kind = columns, ids_dtype(k)
    share = jnp.asarray(share[:, None], x.dtype)
    blocks = []
    for place in np.array_split(np.arange(size[0]), math.ceil(b * k * w * size[0] * x.dtype.itemsize / BLOCK_BYTES)):
        upper, lower, part = (tap[place] for tap in rows)
        part = jnp.asarray(part, x.dtype)
        tall = jnp.take(x, upper, axis=3, mode="clip") * (1 - part) + jnp.take(x, lower, axis=3, mode="clip") * part

        highest = ids = None
        for index in range(k):  # written out: XLA makes one loop over the pixels of it
            one = tall[:, index]  # b w rows
            value = jnp.take(one, left, axis=1, mode="clip") * (1 - share)
            value += jnp.take(one, right, axis=1, mode="clip") * share
            if highest is None:
                highest, ids = value, jnp.zeros(value.shape, kind)
                continue
            higher = value > highest
            highest, ids = jnp.where(higher, value, highest), jnp.where(higher, jnp.asarray(index, kind), ids)
        blocks.append(ids.transpose(0, 2, 1))
    return blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks, axis=1)


def _by_products(x: Array, size: tuple[int, int], align_corners: bool) -> Array:
    b, h, w, k = x.shape
    x = _columns(x, resize_matrix(w, size[1], "bilinear", align_corners, False))
    count = math.ceil(b * k * size[0] * size[1] * x.dtype.itemsize / BLOCK_BYTES)
    height = math.ceil(size[0] / count)
    matrix = np.zeros((count * height, h))
    matrix[: size[0]] = resize_matrix(h, size[0], "bilinear", align_corners, False)

    def ids(rows: Array) -> Array:
        values = jnp.einsum("oh,bhwk->bowk", rows, x, precision=_PRECISION)
        return jnp.argmax(values, axis=-1).astype(ids_dtype(k))

    blocks = lax.map(ids, jnp.asarray(matrix.reshape(count, height, h), x.dtype))  # n b rows w
    return blocks.swapaxes(0, 1).reshape(b, count * height, size[1])[:, : size[0]]
