"""Images that no network can take are refused by name, before a shape error deep inside the network."""

from __future__ import annotations

import jax.numpy as jnp

from segjax.errors import UserError
from segjax.typing import Array


def check_images(images: Array, *, smallest: int = 1) -> None:
    """Raises UserError unless images are (b, h, w, 3) floats with h, w >= smallest; looks at shape and type only.

    Called first by every network, so also while tracing. For values that are not finite see `segjax.inference`.
    """
    if images.ndim != 4:
        raise UserError(f"images of shape {images.shape} are no batch; networks take (batch, height, width, 3).")
    if images.shape[-1] != 3:
        raise UserError(
            f"images of shape {images.shape} have {images.shape[-1]} channels; networks take RGB, (batch, height, "
            "width, 3)."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images are {images.dtype}; normalise them to float32 first (segjax.augment.normalise).")
    if min(images.shape[:3]) < 1 or min(images.shape[1:3]) < smallest:
        raise UserError(
            f"images of {images.shape[1]}x{images.shape[2]} pixels, {images.shape[0]} of them, are too small; this "
            f"network takes {smallest}x{smallest} or more."
        )
