"""Boundary label relaxation (Zhu et al., CVPR 2019, section 3.2): any class of the 3x3 window is right at a boundary."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from segjax.losses.cross_entropy import rarity_weights, valid_pixels
from segjax.losses.negative_log import set_nll
from segjax.ops.windows import class_bits, contains, thick_boundaries, union
from segjax.typing import Array, Sum

MODES = ("paper", "per_image", "reference")


def relaxed_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    ignore_label: int = 255,
    window: int = 3,
    strict_classes: Sequence[int] = (),
    mode: str = "paper",
    upper_bound: float | None = None,
    off_epoch: int | None = None,
    epoch: int | Array = 0,
    images_per_device: int = 0,
) -> Sum:
    """-log of the summed probability of the classes in the window around each pixel, eq. (5).

    logits: (b, h, w, k) float. labels: (b, h, w) int. A pixel counts if its window shows a class.
    window: odd side in pixels. strict_classes: pixels of these classes keep their own label only.
    mode: "paper": the mean over all pixels that count, unweighted unless upper_bound is given.
        "per_image": the mean over images of sum(...) / (pixels + 1), each pixel weighted by the mean of the weights of
        its classes, 1 + upper_bound * (1 - share of the class in this image).
        "reference": what the released code computes: the same, summed over images, and each pixel multiplied by the
        batch's sum of 1 / (classes in the window) instead of its own.
    upper_bound: of the class weights; by default none in mode "paper" and 1 else.
    off_epoch: after this epoch (from 0) the second phase of the released schedule: own label only, boundary pixels
        twice. epoch: of the batch; may be traced.
    images_per_device: "reference" computes its sums over so many images and averages these groups; 0 = the whole batch.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known; choose one of {', '.join(MODES)}")
    k = logits.shape[-1]
    relax = True if off_epoch is None else epoch <= off_epoch
    labels = jnp.where(valid_pixels(labels, k, ignore_label), labels, k).astype(jnp.int32)
    bits, times = _targets(labels, k, window=window, strict_classes=strict_classes, relax=relax)
    counts = (bits != 0).any(0)  # b h w
    value = set_nll(logits, bits)
    if mode == "paper" and upper_bound is None:
        weight = counts * times
        return Sum((value * weight).sum(), counts.sum().astype(jnp.float32))

    inside = contains(bits, k)  # b h w k
    members = jnp.maximum(inside.sum(-1), 1).astype(jnp.float32)
    void = _shows_void(labels, k, window=window, strict_classes=strict_classes, relax=relax)
    shown = (inside * times[..., None]).sum((1, 2))  # b k
    shown = jnp.concatenate([shown, (void * times).sum((1, 2))[:, None]], -1)
    weights = rarity_weights(shown, 1.0 if upper_bound is None else upper_bound)[:, :k]
    weight_sum = (inside * weights[:, None, None]).sum(-1)  # b h w, over the classes of the window
    if mode == "paper":
        weight = jnp.where(counts, weight_sum / members * times, 0.0)
        return Sum((value * weight).sum(), counts.sum().astype(jnp.float32))

    # relaxed: 1 / classes; else 1 or, at boundaries, 2
    share = jnp.where(counts, jnp.where(relax, 1.0 / members, times), 1.0)
    pixels = counts.sum((1, 2)).astype(jnp.float32) + 1.0
    if mode == "per_image":
        per_image = jnp.where(counts, value * weight_sum * share, 0.0).sum((1, 2)) / pixels
        return Sum(per_image.sum(), jnp.float32(logits.shape[0]))
    group = images_per_device or logits.shape[0]
    share = share.reshape(-1, group, *share.shape[1:]).sum(1, keepdims=True)
    share = jnp.broadcast_to(share, (share.shape[0], group, *share.shape[2:])).reshape(counts.shape)
    per_image = jnp.where(counts, value * weight_sum * share, 0.0).sum((1, 2)) / pixels
    return Sum(per_image.sum(), jnp.float32(logits.shape[0] // group))


def _targets(labels: Array, k: int, *, window: int, strict_classes: Sequence[int], relax) -> tuple[Array, Array]:
    """(class sets (words, b, h, w), how often a pixel counts (b, h, w)). labels: k where there is no class."""
    own = class_bits(labels, k, ignore_label=k)
    sets = union(own, window)
    if strict_classes:
        sets = jnp.where(_is_any(labels, strict_classes), own, sets)
    ones = jnp.ones(labels.shape, jnp.float32)
    if isinstance(relax, bool) and relax:
        return sets, ones
    relax = jnp.asarray(relax)
    twice = jnp.where(thick_boundaries(labels), 2.0, 1.0)
    return jnp.where(relax, sets, own), jnp.where(relax, ones, twice)


def _shows_void(labels: Array, k: int, *, window: int, strict_classes: Sequence[int], relax) -> Array:
    """Pixels whose window shows void or lies partly outside the image, (b, h, w) bool; with relax False the void ones."""
    void = labels == k
    reach = window // 2
    outside = jnp.pad(void.astype(jnp.uint32), [(0, 0)] + [(reach, reach)] * 2, constant_values=1)
    seen = union(outside, window)[:, reach : reach + labels.shape[1], reach : reach + labels.shape[2]] != 0
    if strict_classes:
        seen = jnp.where(_is_any(labels, strict_classes), False, seen)
    return jnp.where(relax, seen, void)


def _is_any(labels: Array, classes: Sequence[int]) -> Array:
    return (labels[..., None] == jnp.asarray(tuple(classes))).any(-1)
