"""Colours and sharpness, changed on the device; one example per function.

Images are three planes, red, green and blue, (h, w) float32 in 0..1. XLA fuses operations on separate arrays into one
loop. In one array with 3 channels, each channel would compute all three again.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.ops.borders import repeat_border
from segjax.typing import Array

# name -> (mean, standard deviation) of RGB in 0..1
NORMALISATION: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "efficientnet_lite": ((127 / 255,) * 3, (128 / 255,) * 3),
    # Ladder DenseNets: pixels of Cityscapes
    "ldn": ((73.45286 / 255, 83.21195 / 255, 72.78044 / 255), (45.19961 / 255, 46.3659 / 255, 45.48506 / 255)),
    "dpn": ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),  # dual path networks, ImageNet weights
    "swiftnet": ((73.15 / 255, 82.90 / 255, 72.3 / 255), (47.67 / 255, 48.49 / 255, 47.73 / 255)),
    "bisenet": ((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)),
    "camvid": ((0.41189, 0.42513, 0.43267), (0.27414, 0.28506, 0.28285)),  # pixels of CamVid (GSVNet)
    "caffe": ((122.675 / 255, 116.669 / 255, 104.008 / 255), (1 / 255,) * 3),  # pixels minus their mean (DeepLabV2)
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}

Planes = tuple[Array, Array, Array]
JITTER = ("brightness", "contrast", "saturation", "hue")
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601


def normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Returns (mean, std) of RGB, (3,) each, for colours in 0..1.

    name: key of NORMALISATION.

    Raises UserError for an unknown name.
    """
    if name not in NORMALISATION:
        raise UserError(f"normalisation {name!r} is not known.{did_you_mean(name, NORMALISATION)}")
    return NORMALISATION[name]


def normalise(images: Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """Returns (images / 255 - mean) / std, (..., 3) float32; images: (..., 3) uint8, or float in 0..255."""
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return (images.astype(jnp.float32) - 255.0 * mean) * (1.0 / (255.0 * std))


def denormalise(images: Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """Returns the inverse of `normalise`, rounded to uint8 (..., 3), for display."""
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return jnp.clip(jnp.round(255.0 * (images * std + mean)), 0, 255).astype(jnp.uint8)


def grey(planes: Planes) -> Array:
    """Returns the luma of red, green and blue, (h, w)."""
    return _GREY[0] * planes[0] + _GREY[1] * planes[1] + _GREY[2] * planes[2]


def _blend(planes: Planes, other: Array, factor: Array) -> Planes:
    return tuple(jnp.clip(factor * plane + (1.0 - factor) * other, 0.0, 1.0) for plane in planes)


def adjust_brightness(planes: Planes, factor: Array) -> Planes:
    """Returns planes * factor, clipped to 0..1."""
    return _blend(planes, 0.0, factor)


def adjust_contrast(planes: Planes, factor: Array, *, mask: Array | None = None) -> Planes:
    """Returns factor * planes + (1 - factor) * mean grey level, clipped to 0..1.

    mask: (h, w) bool, pixels that the mean is taken over; None for all.
    """
    level = grey(planes)
    mean = level.mean() if mask is None else jnp.sum(level, where=mask) / jnp.maximum(mask.sum(), 1)
    return _blend(planes, mean, factor)


def adjust_saturation(planes: Planes, factor: Array) -> Planes:
    """Returns factor * planes + (1 - factor) * their grey image, clipped to 0..1."""
    return _blend(planes, grey(planes), factor)


def adjust_hue(planes: Planes, shift: Array) -> Planes:
    """Returns planes with the hue turned by `shift`, a part of the circle of HSV.

    The largest and smallest component of a pixel do not change. The conversions to HSV and back are one formula. A
    component is max - chroma * clip(min(k, 4 - k), 0, 1) with k = (hue + n) mod 6, in sixths of the circle; n = 5, 3, 1
    for red, green, blue.
    """
    red, green, blue = planes
    high = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = high - jnp.minimum(jnp.minimum(red, green), blue)
    per_chroma = 1.0 / jnp.where(chroma > 0, chroma, 1.0)
    hue = jnp.where(
        high == red,
        (green - blue) * per_chroma,
        jnp.where(high == green, (blue - red) * per_chroma + 2.0, (red - green) * per_chroma + 4.0),
    )
    hue = hue + 6.0 * shift

    def component(n: float) -> Array:
        k = hue + n
        k = k - 6.0 * jnp.floor(k * (1.0 / 6.0))
        return high - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return component(5.0), component(3.0), component(1.0)


def draw_jitter(key: Array, ranges: Mapping[str, float]) -> dict[str, Array]:
    """Draws a factor in 1 +- range for each of JITTER (for hue a shift in +- range), and their `order`.

    key: of jax.random.
    ranges: name -> range; 0 for missing names.

    Returns name -> () float32, and "order" -> (4,) int32, the turn of each of JITTER, 0 = first.
    """
    order_key, value_key = jax.random.split(key)
    order = jnp.argsort(jnp.argsort(jax.random.uniform(order_key, (4,))))
    values = jax.random.uniform(value_key, (4,), minval=-1.0, maxval=1.0)
    values = values * jnp.array([ranges.get(name, 0.0) for name in JITTER]) + jnp.array([1.0, 1.0, 1.0, 0.0])
    return dict(zip(JITTER, values)) | {"order": order}


def color_jitter(planes: Planes, drawn: Mapping[str, Array], *, mask: Array | None = None, hue: bool = True) -> Planes:
    """Returns planes with changed brightness, contrast, saturation and hue, in the order drawn by `draw_jitter`.

    drawn: see `draw_jitter`.
    mask: (h, w) bool, pixels that count for the mean grey of contrast; None for all.
    hue: False if its range is 0, to save time.
    """
    # The order differs by example, and under vmap a branch would compute every step at every turn. Brightness, contrast
    # and saturation are one formula, f x + (1 - f) y with y = 0, mean grey or grey, and hue with a shift of 0 changes
    # nothing: so four equal turns of a loop do any order. Unrolled, the compiler would compute early steps repeatedly.
    mask = jnp.ones(planes[0].shape, bool) if mask is None else mask
    pixels = jnp.maximum(mask.sum(), 1)
    step = jnp.argsort(drawn["order"])  # which of JITTER comes first, second, ..
    factors = jnp.stack([drawn["brightness"], drawn["contrast"], drawn["saturation"], jnp.ones(())])[step]
    shifts = jnp.where(step == 3, drawn["hue"], 0.0)

    def turn(planes: Planes, now: tuple[Array, ...]) -> tuple[Planes, None]:
        factor, is_contrast, is_saturation, shift = now
        level = grey(planes)
        mean = jnp.sum(level, where=mask) / pixels
        planes = _blend(planes, is_contrast * mean + is_saturation * level, factor)
        return adjust_hue(planes, shift) if hue else planes, None

    planes, _ = jax.lax.scan(turn, tuple(planes), (factors, 1.0 * (step == 1), 1.0 * (step == 2), shifts))
    return planes


def blur_radius(sigma: float) -> int:
    """Returns the radius of a Gaussian in pixels: 4 sigma, as in skimage and scipy."""
    return int(4.0 * sigma + 0.5)


def gaussian_blur(image: Array, sigma: Array, *, max_sigma: float) -> Array:
    """Returns a plane (h, w) blurred by a Gaussian that is cut off at 4 sigma (as in scipy.ndimage, mode "nearest").

    image: (h, w); its border is repeated.
    sigma: () in pixels, 0..max_sigma; 0 does not change the image.
    max_sigma: static, sets the number of taps.
    """
    radius = blur_radius(max_sigma)
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * jnp.square(offsets / jnp.maximum(sigma, 1e-3)))
    weights = jnp.where(jnp.abs(offsets) <= jnp.floor(4.0 * sigma + 0.5), weights, 0.0)
    weights = weights / weights.sum()
    for axis in (0, 1):
        # shifted multiply-adds: XLA fuses them, and its convolutions of few channels are slower on every backend
        padded, length = repeat_border(image, radius, axis), image.shape[axis]
        image = sum(weights[i] * jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(2 * radius + 1))
    return image
