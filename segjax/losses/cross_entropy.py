"""Cross entropy, with weights per class, or per class and image."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from segjax.losses.negative_log import nll
from segjax.typing import Array, Sum


def valid_pixels(labels: Array, num_classes: int, ignore_label: int) -> Array:
    """Pixels that count, bool: they have a class that is not ignored."""
    return (labels != ignore_label) & (labels >= 0) & (labels < num_classes)


def class_weight_map(labels: Array, class_weights: Sequence[float] | Array, num_classes: int) -> Array:
    """Weight of each pixel's class. labels (...), class_weights (k,); (...) float32; 0 where there is no class."""
    weights = jnp.asarray(class_weights, jnp.float32)
    if weights.shape != (num_classes,):
        raise ValueError(f"class_weights has {weights.size} values but there are {num_classes} classes")
    return jnp.where(labels[..., None] == jnp.arange(num_classes), weights, 0.0).sum(-1)


def cross_entropy(
    logits: Array, labels: Array, *, ignore_label: int = 255, class_weights: Sequence[float] | Array | None = None
) -> Sum:
    """Sum over valid pixels of w * -log softmax(logits)[label], and of the weights w: its mean is PyTorch's.

    logits: (..., h, w, k) float. labels: (..., h, w) int, `ignore_label` and ids that are no class do not count.
    class_weights: (k,), 1 by default.
    """
    k = logits.shape[-1]
    valid = valid_pixels(labels, k, ignore_label)
    weight = valid.astype(jnp.float32)
    if class_weights is not None:
        weight *= class_weight_map(labels, class_weights, k)
    value = nll(logits, jnp.where(valid, labels, -1))
    return Sum((value * weight).sum(), weight.sum())


def image_weighted_cross_entropy(
    logits: Array, labels: Array, *, ignore_label: int = 255, upper_bound: float = 1.0, mode: str = "per_image"
) -> Sum:
    """Cross entropy whose class weights 1 + upper_bound * (1 - frequency in this image) favour what is rare in it.

    logits: (b, h, w, k). labels: (b, h, w) int.
    mode: "per_image", the mean over images of each one's weighted mean; "reference", their sum, as the code released with
        VPLR returns it, where also pixels of an ignore_label equal to k count towards the frequency of class k - 1.
    Source: Zhu et al., CVPR 2019, released loss for Mapillary (upper_bound 6) and KITTI (1).
    """
    k = logits.shape[-1]
    valid = valid_pixels(labels, k, ignore_label)
    counted = labels
    if mode == "reference" and ignore_label == k:
        counted = jnp.where(labels == k, k - 1, labels)
    counts = (counted[..., None] == jnp.arange(k)).sum((-3, -2)).astype(jnp.float32)  # b k
    weights = rarity_weights(counts, upper_bound)
    weight = jnp.where(valid, (jnp.where(labels[..., None] == jnp.arange(k), weights[:, None, None], 0.0)).sum(-1), 0.0)
    value = (nll(logits, jnp.where(valid, labels, -1)) * weight).sum((-2, -1))
    total = weight.sum((-2, -1))
    means = jnp.where(total > 0, value / jnp.where(total > 0, total, 1.0), 0.0)
    if mode == "reference":
        return Sum(means.sum(), jnp.ones(()))
    if mode != "per_image":
        raise ValueError(f"mode={mode!r} is not known; choose 'per_image' or 'reference'")
    return Sum(means.sum(), (total > 0).sum().astype(jnp.float32))


def rarity_weights(counts: Array, upper_bound: float) -> Array:
    """1 + upper_bound * (1 - share) of classes that occur, 1 of those that do not. counts (..., k) -> (..., k)."""
    share = counts / jnp.maximum(counts.sum(-1, keepdims=True), 1.0)
    return jnp.where(counts > 0, 1.0 + upper_bound * (1.0 - share), 1.0)
