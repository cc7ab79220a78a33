"""Images whose values no network can take."""

from __future__ import annotations

import jax
import numpy as np

from segjax.errors import UserError
from segjax.typing import Array


def check_finite(images: Array) -> None:
    """Raises UserError where float images (b, ..) hold nan or infinity, and names the first such image.

    Integers are finite, and what is being traced has no values yet: both cost nothing. One nan would spread over the
    whole prediction through global pooling. Shape and type are checked by the networks themselves.
    """
    if isinstance(images, jax.core.Tracer) or not np.issubdtype(images.dtype, np.floating):
        return
    bad = ~np.isfinite(np.asarray(images))
    if bad.any():
        first = int(np.argmax(bad.any(axis=tuple(range(1, bad.ndim)))))
        raise UserError(
            f"image {first} of the batch holds {int(bad[first].sum())} values that are nan or infinite; "
            "repair or leave out the image."
        )
