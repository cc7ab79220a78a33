"""Confusion matrix on the device, in exact integers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.typing import Array


def confusion_matrix(
    prediction: Array, labels: Array, num_classes: int, *, ignore_label: int = 255, weight: Array | None = None
) -> jax.Array:
    """Pixels by true class (row) and predicted class (column), (k, k) int32.

    prediction, labels: (..., h, w) int of one shape. Pixels whose label is ignored or no class do not count, nor does a
    prediction that is no class.
    weight: (b,), the first axis; rows of weight 0 do not count.

    On CPU a histogram, elsewhere a product of one-hot rows, which needs no scatter and, spread over devices, no more
    communication than the result.
    """
    labels, prediction = labels.astype(jnp.int32), prediction.astype(jnp.int32)
    k = num_classes
    counts = (labels != ignore_label) & (labels >= 0) & (labels < k) & (prediction >= 0) & (prediction < k)
    if weight is not None:
        counts &= weight.reshape(-1, *[1] * (labels.ndim - 1)) > 0
    if jax.default_backend() == "cpu":
        cells = jnp.where(counts, labels * k + prediction, k * k).reshape(-1)
        return jnp.bincount(cells, length=k * k + 1)[:-1].reshape(k, k).astype(jnp.int32)
    truth = jnp.where(counts, labels, k)[..., None] == jnp.arange(k)
    guess = prediction[..., None] == jnp.arange(k)
    # bytes in, 32-bit integers out: exact, where float32 would lose count above 2^24
    return jnp.einsum("...i,...j->ij", truth.astype(jnp.int8), guess.astype(jnp.int8), preferred_element_type=jnp.int32)
