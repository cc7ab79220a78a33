"""Cross entropy over the valid pixels, with class weights."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.losses.class_weights import check_weights, class_counts, histogram_weights, per_pixel_weight
from segjax.losses.negative_log import nll as negative_log
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum

WEIGHT_MODES = ("weighted_mean", "pixel_mean", "image_mean")


def cross_entropy(
    logits: Array,
    labels: Array,
    ignore_label: int = 255,
    *,
    class_weights: Sequence[float] | Array | None = None,
    upper_bound: float = 0.0,
    weight_mode: str = "weighted_mean",
) -> Sum:
    """Returns -log softmax(logits)[label], summed over the valid pixels.

    logits: (..., h, w, k) float.
    labels: (..., h, w) int; ignored are `ignore_label` and labels outside 0..k-1.
    ignore_label: label of pixels that do not count.
    class_weights: (k,), or (..., k) with a row for every image.
    upper_bound: if above 0, weights by each image's own histogram, 1 + upper_bound * (1 - frequency of the class).
    weight_mode: the mean of the returned Sum.
        weighted_mean: sum of w * nll / sum of w (torch's CrossEntropyLoss(weight)); the plain mean without weights.
        pixel_mean: sum of w * nll / number of valid pixels.
        image_mean: mean over the images of their weighted means; images without a valid pixel do not count. The value
            of the Sum is the image-weighted loss of the code released with VPLR.

    Raises UserError for weights that do not fit, and an unknown weight_mode.
    """
    nll, classes, weights = pixel_losses(
        logits, labels, ignore_label=ignore_label, class_weights=class_weights, upper_bound=upper_bound
    )
    return reduce_pixels(nll, classes < logits.shape[-1], weights, weight_mode=weight_mode)


def pixel_losses(
    logits: Array,
    labels: Array,
    *,
    ignore_label: int,
    class_weights: Sequence[float] | Array | None,
    upper_bound: float,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Returns (nll, classes, weights) of every pixel; arguments and errors as in `cross_entropy`.

    nll: (..., h, w) float32, 0 for ignored pixels. classes: (..., h, w) int32, k for ignored pixels.
    weights: (..., h, w) float32, or None without.
    """
    k = logits.shape[-1]
    classes = jnp.where(is_class(labels, k, ignore_label), labels, k).astype(jnp.int32)
    weights = check_weights(class_weights, upper_bound, labels, k)
    if upper_bound:
        weights = histogram_weights(class_counts(classes, k), upper_bound)
    nll = negative_log(jnp.asarray(logits).astype(jnp.float32), classes)
    return nll, classes, None if weights is None else per_pixel_weight(weights, classes)


def reduce_pixels(nll: Array, kept: Array, weights: Array | None, *, weight_mode: str) -> Sum:
    """Returns the Sum over the kept pixels.

    nll: (..., h, w) float32.
    kept: (..., h, w) bool.
    weights: (..., h, w) float32, or None for 1.
    weight_mode: see `cross_entropy`.

    Raises UserError for an unknown weight_mode.
    """
    if weight_mode not in WEIGHT_MODES:
        raise UserError(f"weight_mode={weight_mode!r} is not known.{did_you_mean(weight_mode, WEIGHT_MODES)}")
    value = jnp.where(kept, nll if weights is None else weights * nll, 0.0)
    if weight_mode == "pixel_mean":
        return Sum(value.sum(), count_true(kept))
    share = count_true(kept, (-2, -1)) if weights is None else jnp.where(kept, weights, 0.0).sum(axis=(-2, -1))
    if weight_mode == "weighted_mean":
        return Sum(value.sum(), share.sum())
    filled = share > 0
    means = jnp.where(filled, value.sum(axis=(-2, -1)) / jnp.where(filled, share, 1.0), 0.0)
    return Sum(means.sum(), count_true(filled))


def count_true(mask: Array, axis: tuple[int, ...] | None = None) -> jax.Array:
    """Returns the number of true elements as float32; counted in int32, because float32 is exact to 2^24 only."""
    return jnp.sum(mask, axis=axis, dtype=jnp.int32).astype(jnp.float32)
