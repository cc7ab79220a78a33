"""Augmentation of a batch: from the windows that the host sends to the images and targets of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segjax.augment import photometric
from segjax.augment.geometric import covered, crop_label, crop_resize
from segjax.errors import UserError, did_you_mean
from segjax.typing import Array, Batch, Targets

# arrays of labels in a batch -> their names among the targets
TARGETS = {"label": "labels", "soft_ids": "soft_ids", "soft_shares": "soft_shares"}


def augment_batch(
    batch: Batch,
    seed: int,
    crop: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    ignore_label: int = 255,
    plain: bool = False,
    *,
    flip: bool | float = True,
    color_jitter: Mapping[str, float] | None = None,
    blur: Mapping[str, Any] | None = None,
    antialias: bool = True,
    method: str = "bilinear",
) -> tuple[Array, Targets]:
    """Returns (images (b, h, w, 3) float32, targets): scaled, cropped, mirrored; images also jittered, normalised.

    Of video, images are (b, t, h, w, 3), all frames of an example with the same draws.

    All draws for an example depend on (seed, epoch, index), not on its batch. Padding is 0 after normalisation and
    has the label ignore_label. It does not count for the mean of contrast, and blur does not mix it with pixels.

    targets: labels (b, h, w) int32. With soft labels in the batch also soft_ids (b, h, w, n) int32, and soft_shares
        (b, h, w, n) float32 in 0..1; both are those of the source pixel that the label is from.

    batch: image uint8 (b, H, W, 3) or (b, t, H, W, 3), label uint8 (b, H, W), extent and box float32 (b, 4), index and
        epoch int32 (b,), and for soft labels soft_ids and soft_shares uint8 (b, H, W, n); see `data.train_batches`.
    seed: of all draws.
    crop: (h, w) in pixels.
    mean, std: of the normalisation, (3,), for colours in 0..1.
    ignore_label: label of padding.
    plain: whether targets also contain `plain` (b, h, w, 3) float32, the images without jitter and blur, and `inside`
        (b, h, w) bool, which of their pixels are no padding.
    flip: whether to mirror, with probability 0.5, or with this one.
    color_jitter: half ranges of brightness, contrast, saturation (factors around 1) and hue (part of the circle), in
        random order as in torchvision's ColorJitter. None or {}: off.
    blur: "sigma", (low, high) in pixels, default (0.15, 1.3); "probability", default 1. None or {}: off.
    antialias: whether the kernel widens if images are reduced.
    method: "bilinear" or "bicubic", for images; labels are those of the nearest source pixel.

    Raises UserError for unknown options, and values out of range.
    """
    chance = _check_flip(flip)
    ranges = _check_jitter(color_jitter or {})
    sigma, probability = _check_blur(blur or {})

    def one(x: dict[str, Array]) -> tuple[Array, Targets]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), x["epoch"]), x["index"])
        flip_key, jitter_key, sigma_key, blur_key = jax.random.split(key, 4)
        mirrored = jax.random.bernoulli(flip_key, chance) if chance else False
        where = dict(extent=x["extent"], box=x["box"], size=tuple(crop), flip=mirrored)
        targets = {
            TARGETS[name]: crop_label(x[name], **where, ignore_label=0 if name == "soft_shares" else ignore_label)
            for name in TARGETS
            if name in x
        }
        if "soft_shares" in targets:
            targets["soft_shares"] = targets["soft_shares"].astype(jnp.float32) * (1.0 / 255.0)
        inside = covered(**where)

        def finish(planes: photometric.Planes) -> Array:
            images = photometric.normalise(jnp.stack(planes, axis=-1), mean=mean, std=std)
            return jnp.where(inside[..., None], images, 0.0)

        def colours(image: Array) -> tuple[Array, Array | None]:
            """Returns a frame (h, w, 3) with and, if `plain`, without jitter and blur."""
            planes = untouched = crop_resize(image, **where, method=method, antialias=antialias)
            if ranges or sigma:
                planes = tuple(plane * (1.0 / 255.0) for plane in planes)
            if ranges:
                drawn = photometric.draw_jitter(jitter_key, ranges)
                planes = photometric.color_jitter(planes, drawn, mask=inside, hue="hue" in ranges)
            if sigma:
                width = jax.random.uniform(sigma_key, minval=sigma[0], maxval=sigma[1])
                width = jnp.where(jax.random.uniform(blur_key) < probability, width, 0.0)
                planes = tuple(photometric.gaussian_blur(plane, width, max_sigma=sigma[1]) for plane in planes)
            if ranges or sigma:
                planes = tuple(plane * 255.0 for plane in planes)
            return finish(planes), finish(untouched) if plain else None

        frames = x["image"].ndim == 4
        images, untouched = (jax.vmap(colours) if frames else colours)(x["image"])
        if plain:
            targets |= {"plain": untouched, "inside": inside}
        return images, targets

    names = ("image", "extent", "box", "index", "epoch", *(name for name in TARGETS if name in batch))
    return jax.vmap(one)({name: jnp.asarray(batch[name]) for name in names})


def _check_flip(flip: bool | float) -> float:
    if not isinstance(flip, (bool, int, float)) or not 0.0 <= flip <= 1.0:
        raise UserError(f"augment.flip={flip!r} must be True, False, or a probability from 0 to 1.")
    return 0.5 if flip is True else float(flip)


def _check_jitter(ranges: Mapping[str, float]) -> dict[str, float]:
    for name, value in ranges.items():
        if name not in photometric.JITTER:
            raise UserError(f"augment.color_jitter has no {name!r}.{did_you_mean(name, photometric.JITTER)}")
        if not 0.0 <= value <= (0.5 if name == "hue" else 1.0):
            raise UserError(f"augment.color_jitter.{name}={value} must be from 0 to {0.5 if name == 'hue' else 1.0}.")
    return {name: float(value) for name, value in ranges.items() if value}


def _check_blur(settings: Mapping[str, Any]) -> tuple[tuple[float, float] | None, float]:
    for name in settings:
        if name not in ("sigma", "probability"):
            raise UserError(f"augment.blur has no {name!r}.{did_you_mean(name, ('sigma', 'probability'))}")
    if not settings:
        return None, 0.0
    sigma = settings.get("sigma", (0.15, 1.3))
    if not isinstance(sigma, (tuple, list)) or len(sigma) != 2:
        raise UserError(f"augment.blur.sigma={sigma!r} must be two pixel widths, from and to, such as (0.15, 1.3).")
    low, high = sigma
    probability = float(settings.get("probability", 1.0))
    if not 0.0 <= low <= high:
        raise UserError(
            f"augment.blur.sigma={(low, high)} must be two pixel widths of 0 or more, the smaller one first."
        )
    if not 0.0 <= probability <= 1.0:
        raise UserError(f"augment.blur.probability={probability} must be from 0 to 1.")
    return ((float(low), float(high)), probability) if high and probability else (None, 0.0)
