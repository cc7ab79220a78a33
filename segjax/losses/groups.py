"""Parts of a batch that are treated as batches of their own, as the published code treats each device's share."""

from __future__ import annotations

import jax

from segjax.errors import UserError


def split_batch(x: jax.Array, images: int) -> jax.Array:
    """(b, h, w) -> (b / images, images, h, w); images = 0 takes the whole batch.

    Raises UserError where the batch cannot be split. Follows the sharding of b where every device holds whole parts.
    """
    if x.ndim != 3 or (images and x.shape[0] % images):
        raise UserError(
            f"labels {x.shape} cannot be split into parts of {images} images; batch_size must be a multiple."
        )
    return x.reshape(-1, images or x.shape[0], *x.shape[1:])
