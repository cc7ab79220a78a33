"""Boundary label relaxation: at a boundary, any of the classes that meet there is right (VPLR, section 3.4)."""

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
    """Returns -log of the softmax mass of the set N of classes around each pixel, times the mean weight of N.

    N: the classes in the window around the pixel. A pixel is supervised if N is not empty, so a void pixel beside a
    labelled one counts. "The release" is the code released with VPLR (NVIDIA/semantic-segmentation, branch sdcnet).

    logits: (..., h, w, k) float.
    labels: (..., h, w) int; `ignore_label` and labels outside 0..k-1 are void.
    ignore_label: label of void.
    epoch: of this batch, () int from 0, may be traced.
    window: side in pixels, odd; 1 is plain cross entropy.
    strict_classes: pixels with these labels keep their own class only; their neighbours are relaxed as usual.
    class_weights: (k,), or (..., k) with a row for every image.
    upper_bound: if above 0, weights by the histogram of each image's sets, 1 + upper_bound * (1 - frequency). The
        release has 1 for Cityscapes and KITTI, 6 for Mapillary.
    mode: the mean of the returned Sum.
        paper: mean over all supervised pixels, eq. (5).
        per_image: mean over images of (sum over the image's pixels) / (its supervised pixels + 1).
        reference: as the release computes it, which depends on the batch. A pixel's value is not divided by its own
            |N|. It is multiplied by the sum over the batch's images of 1 / |N| at that place (of the boundary weights,
            once relaxation is off). The images are summed. The result is about the batch size squared times that of
            per_image.
    images_per_device: for `reference`, the images of one batch; the mean is over such batches. 0 = all.
    off_epoch: last epoch of relaxation; None = no end, -1 = none at all. In later epochs pixels have their own class
        only, with `boundary_weight` on both sides of every boundary, those of void included. The release has 100.
    boundary_weight: of pixels at boundaries after off_epoch. The release has 2.

    Raises UserError for an unknown mode, an even window, and weights, classes or images_per_device that do not fit.
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
    """Returns the set N of each pixel, (words, ..., h, w) uint32; relax: () bool, None = true."""
    hard = class_sets(labels, k, window=1, ignore_label=ignore_label)
    soft = class_sets(labels, k, window=window, ignore_label=ignore_label)
    if strict_classes:
        strict = sum(has_class(hard, c) for c in strict_classes) > 0
        soft = jnp.where(strict, hard, soft)
    return soft if relax is None else jnp.where(relax, soft, hard)


def _emphasis(labels, relax, k, ignore_label, boundary_weight):
    """Returns pixel weights, (..., h, w) float32: 1, or `boundary_weight` at boundaries if relaxation is off."""
    if relax is None:
        return jnp.ones(jnp.shape(labels), jnp.float32)
    # all void labels become k: a boundary between two of them is none
    boundary = thick_boundaries(jnp.where(is_class(labels, k, ignore_label), jnp.asarray(labels).astype(jnp.int32), k))
    return jnp.where(boundary & ~relax, jnp.float32(boundary_weight), 1.0)


def _set_counts(sets, emphasis, channels):
    """Returns the weighted number of sets with each class, and with void, per image; (..., channels) float32."""
    return jnp.stack(
        [(has_class(sets, c).astype(jnp.float32) * emphasis).sum(axis=(-2, -1)) for c in range(channels)], axis=-1
    )


def _total_weight(weights, sets, sizes) -> jax.Array:
    """Returns the sum of the weights of the classes in each set, (..., h, w) float32; their number without weights."""
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
