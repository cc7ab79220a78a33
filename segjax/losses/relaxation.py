"""Boundary label relaxation: near a boundary the network may choose among the classes that meet there (VPLR, 3.2)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.losses.class_weights import check_weights, histogram_weights, weight_of_class
from segjax.losses.cross_entropy import count_true
from segjax.losses.groups import split_batch
from segjax.losses.negative_log import set_nll
from segjax.ops.fence import fenced
from segjax.ops.windows import class_sets, has_class, is_class, set_size, thick_boundaries
from segjax.typing import Array, Sum

MODES = ("paper", "per_image", "reference")


def relaxed_cross_entropy(
    logits: Array,
    labels: Array,
    ignore_label: int = 255,
    epoch: int | Array = 0,
    *,
    window: int = 3,
    strict_classes: Sequence[int] = (),
    class_weights: Sequence[float] | Array | None = None,
    upper_bound: float = 0.0,
    mode: str = "paper",
    images_per_device: int = 0,
    off_epoch: int | None = None,
    boundary_weight: float = 2.0,
) -> Sum:
    """-log of the softmax mass of the classes N in the window around each pixel, times the mean weight of N.

    A pixel is supervised if its window holds a class at all: an ignored pixel beside a labelled one counts.

    logits: (..., h, w, k) float. labels: (..., h, w) int; `ignore_label` and everything outside 0..k-1 is void.
    window: side in pixels, odd; 1 is plain cross entropy.
    strict_classes: pixels with these labels keep their own class only; their neighbours are relaxed as usual.
    class_weights: (k,), or (..., k) with a row for every image.
    upper_bound: above 0, weigh by the histogram of each image's sets, 1 + upper_bound * (1 - frequency). The release
        uses 1 for Cityscapes and KITTI, 6 for Mapillary.
    mode: what the mean of the returned Sum is.
        paper: mean over all supervised pixels, eq. (5).
        per_image: mean over images of (sum over the image's pixels) / (its supervised pixels + 1).
        reference: what the release computes, which depends on the batch: pixels are not divided by their own |N| but
            multiplied by the sum of 1 / |N| (in the second phase: of the boundary weights) at that place over all
            images of the batch, and images are summed: about the batch size squared times the above (fact sheet 1.4).
    images_per_device: for `reference`, the images that make one batch there; the mean is over such batches. 0 = all.
    off_epoch: after this epoch (the first is 0) the second phase: own class only, weight `boundary_weight` on both
        sides of every boundary, of void too. None = never, -1 = from the start. The release uses 100 and 2.
    epoch: of this batch, () int, may be traced.

    Raises UserError for an unknown mode, or weights, classes or images_per_device that do not fit.
    """
    k = logits.shape[-1]
    _check(mode, window, strict_classes, k, images_per_device)
    weights = check_weights(class_weights, upper_bound, labels, k)
    strict_classes = tuple(sorted(set(strict_classes)))
    relax = None if off_epoch is None else jnp.asarray(epoch) <= off_epoch
    sets = _sets(labels, relax, k, ignore_label, window, strict_classes)
    emphasis = _emphasis(labels, relax, k, ignore_label, boundary_weight)
    sizes = set_size(sets, k)
    supervised = sizes > 0
    if upper_bound:
        counts = _set_counts(sets, emphasis, k + 1)
        weights = histogram_weights(counts[..., :k], upper_bound, void=counts[..., k])

    value = set_nll(jnp.asarray(logits).astype(jnp.float32), sets)
    share = emphasis / jnp.maximum(sizes, 1).astype(jnp.float32)
    if mode == "reference":
        batches = split_batch(jnp.where(supervised, share, 1.0), images_per_device)
        share = jnp.broadcast_to(batches.sum(axis=1, keepdims=True), batches.shape).reshape(share.shape)
    if mode == "reference" or weights is not None:
        value = value * share * _total_weight(weights, sets, sizes)
    else:
        value = value * emphasis
    value = jnp.where(supervised, value, 0.0)

    if mode == "paper":
        return Sum(value.sum(), count_true(supervised))
    means = value.sum(axis=(-2, -1)) / (count_true(supervised, (-2, -1)) + 1.0)
    if mode == "per_image":
        return Sum(means.sum(), count_true(supervised.any(axis=(-2, -1))))
    return Sum(means.sum(), jnp.float32(batches.shape[0]))


@functools.partial(fenced, static_argnums=(2, 3, 4, 5))
def _sets(labels, relax, k, ignore_label, window, strict_classes):
    """The classes each pixel may be taken for, (words, ..., h, w). relax: () bool, None = true."""
    hard = class_sets(labels, k, window=1, ignore_label=ignore_label)
    soft = class_sets(labels, k, window=window, ignore_label=ignore_label)
    if strict_classes:
        strict = sum(has_class(hard, c) for c in strict_classes) > 0
        soft = jnp.where(strict, hard, soft)
    return soft if relax is None else jnp.where(relax, soft, hard)


def _emphasis(labels, relax, k, ignore_label, boundary_weight):
    """Weight of each pixel, (..., h, w) float32: 1, and `boundary_weight` at boundaries once relaxation is off."""
    if relax is None:
        return jnp.ones(jnp.shape(labels), jnp.float32)
    # void is one label here, whatever its number
    boundary = thick_boundaries(jnp.where(is_class(labels, k, ignore_label), jnp.asarray(labels).astype(jnp.int32), k))
    return jnp.where(boundary & ~relax, jnp.float32(boundary_weight), 1.0)


def _set_counts(sets, emphasis, channels):
    """How often each class, and void, is in a set of an image, times the pixel's weight; (..., channels) float32."""
    return jnp.stack(
        [(has_class(sets, c).astype(jnp.float32) * emphasis).sum(axis=(-2, -1)) for c in range(channels)], axis=-1
    )


def _total_weight(weights, sets, sizes) -> jax.Array:
    """Sum of the weights of the classes in each set, their number without weights; (..., h, w) float32."""
    if weights is None:
        return sizes.astype(jnp.float32)
    return sum(has_class(sets, c).astype(jnp.float32) * weight_of_class(weights, c) for c in range(weights.shape[-1]))


def _check(mode, window, strict_classes, k, images_per_device):
    if not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise UserError(f"relaxed_cross_entropy window={window!r} must be the odd side of a square, such as 3.")
    if mode not in MODES:
        raise UserError(f"relaxed_cross_entropy mode={mode!r} is not known.{did_you_mean(mode, MODES)}")
    wrong = sorted(c for c in strict_classes if not 0 <= c < k)
    if wrong:
        raise UserError(f"strict_classes {wrong} are not among the classes 0..{k - 1}; use train ids.")
    if images_per_device and mode != "reference":
        raise UserError(
            f"images_per_device={images_per_device} means something in mode='reference' only, not {mode!r}."
        )
