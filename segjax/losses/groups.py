"""Parts of a batch that are treated as separate batches, as published code treats each device's share."""

from __future__ import annotations

import jax

from segjax.errors import UserError


def split_batch(x: jax.Array, images: int) -> jax.Array:
    """Returns x (b, h, w) as (b / images, images, h, w); images = 0: one part of the whole batch.

    The result keeps the sharding of b if every device holds whole parts.

    Raises UserError if the batch cannot be split.
    """
    if x.ndim != 3 or (images and x.shape[0] % images):
        raise UserError(
            f"labels {x.shape} cannot be split into parts of {images} images; batch_size must be a multiple."
        )
    return x.reshape(-1, images or x.shape[0], *x.shape[1:])
