"""Correlation of two maps of features over a window of displacements: the cost volume of FlowNetC."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.typing import Array

_TILE = 32  # columns


def correlation(first: Array, second: Array, *, max_displacement: int = 20, stride: int = 2) -> Array:
    """Returns the mean over the channels of first(y, x) * second(y + dy, x + dx), for each displacement (dy, dx).

    dy and dx are the multiples of the stride up to max_displacement, of both signs. The result is (b, h, w, n * n) with
    n = 2 * (max_displacement // stride) + 1, the displacements by rows: dx changes first. Pixels outside count as 0.
    It is computed in float32, or the maps' wider float type.

    first, second: (b, h, w, c).
    max_displacement, stride: pixels of the maps.

    Raises ValueError if shapes differ.
    Source: Dosovitskiy et al., ICCV 2015, section 3, with patches of one pixel; divided by c as in NVIDIA's release.
    """
    if first.shape != second.shape or first.ndim != 4:
        raise ValueError(f"correlation: maps {first.shape} and {second.shape} must both be (b, h, w, c)")
    b, h, w, c = first.shape
    wide = jnp.promote_types(first.dtype, jnp.float32)
    radius = max_displacement // stride
    reach, count = radius * stride, 2 * radius + 1
    tile = min(w, _TILE)
    tiles = -(-w // tile)
    surplus = tiles * tile - w
    seen = tile + 2 * reach  # columns of the second map that the pixels of a tile are compared with
    first = jnp.pad(first.astype(wide), ((0, 0), (0, 0), (0, surplus), (0, 0))).reshape(b, h, tiles, tile, c)
    padded = jnp.pad(second.astype(wide), ((0, 0), (reach, reach), (reach, reach + surplus), (0, 0)))
    padded = jnp.stack([padded[:, :, tile * i : tile * i + seen] for i in range(tiles)], 2)

    def of_row(dy: Array) -> Array:
        """Returns the products (b, h, w, n) of one row of displacements.

        Matrix products of all columns of a tile with all that it sees are several times faster than the products of
        each displacement, though only every `seen / n`-th of their elements is used.
        """
        rows = lax.dynamic_slice_in_dim(padded, dy, h, axis=1)
        products = jnp.einsum("bhtic,bhtjc->bhtij", first, rows, precision=lax.Precision.HIGHEST)
        # row i begins at column i, one element later than the row before: rows of seen + 1 elements align them
        flat = jnp.pad(products.reshape(b, h, tiles, tile * seen), ((0, 0), (0, 0), (0, 0), (0, tile)))
        band = flat.reshape(b, h, tiles, tile, seen + 1)[..., : 2 * reach + 1 : stride]
        return band.reshape(b, h, tiles * tile, count)[:, :, :w] / c

    # a loop over the rows bounds the memory: the products of all of them would take that of many maps
    volume = lax.map(of_row, stride * jnp.arange(count))
    return jnp.moveaxis(volume, 0, 3).reshape(b, h, w, count * count)
