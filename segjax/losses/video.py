"""Losses of a video network, as in the code released with VPLR, and losses of features for fine-tuning.

The latter are those of SDC-Net (Reda et al., ECCV 2018). All functions have an argument weight: (b,), 0 for examples
that do not count.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from segjax.typing import Array, Sum


def _sum(values: Array, weight: Array) -> Sum:
    """Returns the Sum over all values (b, ...), weighted by example."""
    axes = tuple(range(1, values.ndim))
    per_example = values.astype(jnp.promote_types(values.dtype, jnp.float32)).sum(axes)
    return Sum((per_example * weight).sum(), weight.sum() * (values.size // values.shape[0]))


def color(frame: Array, target: Array, weight: Array) -> Sum:
    """Returns the absolute differences of frames (b, h, w, 3) in 0..255, scaled to 0..1."""
    return _sum(jnp.abs(frame - target) / 255, weight)


def _steps(x: Array) -> tuple[Array, Array]:
    """Returns absolute differences of neighbours: (b, h, w - 1, c) to the right and (b, h - 1, w, c) below."""
    return jnp.abs(x[:, :, 1:] - x[:, :, :-1]), jnp.abs(x[:, 1:] - x[:, :-1])


def gradient_difference(frame: Array, target: Array, weight: Array) -> tuple[Sum, Sum]:
    """Returns absolute differences of the gradients' sizes, to the right and below, of frames (b, h, w, 3) in 0..255.

    The loss is the sum of the two means. Its unit is a grey level of 0..255, unlike that of `color`, as in the released
    code.
    """
    right, below = (jnp.abs(a - b) for a, b in zip(_steps(frame), _steps(target)))
    return _sum(right, weight), _sum(below, weight)


def flow_smoothness(flow: Array, weight: Array) -> tuple[Sum, Sum]:
    """Returns absolute differences of neighbouring flow vectors (b, h, w, 2) in pixels, to the right and below."""
    right, below = _steps(flow)
    return _sum(right, weight), _sum(below, weight)


def perceptual(features: Mapping[str, Array], target: Mapping[str, Array], weight: Array) -> Array:
    """Returns the sum over layers of the mean absolute difference of features (b, h, w, c), () float32.

    The features are maps of a fixed network by layer (Johnson et al., ECCV 2016).
    """
    return sum(_sum(jnp.abs(features[name] - target[name]), weight).mean() for name in target)


def style(features: Mapping[str, Array], target: Mapping[str, Array], weight: Array) -> Array:
    """Returns the same as `perceptual` for Gram matrices of features, divided by h w c (Gatys et al., CVPR 2016)."""
    return sum(_sum(jnp.abs(_gram(features[name]) - _gram(target[name])), weight).mean() for name in target)


def _gram(x: Array) -> Array:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.einsum("bhwc,bhwd->bcd", x, x) / (x.shape[1] * x.shape[2] * x.shape[3])
