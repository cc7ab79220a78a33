"""Propagation of a labelled frame along its video (Zhu et al., CVPR 2019, section 3.1): pure functions of arrays.

A frame t with its label is carried to t + 1, t + 2, ... one step at a time: the image and the label of the step before
are moved by a motion field, which a network predicts from real frames, or which is optical flow. Backward in time is
the same with the frames mirrored. The next step starts from what this one gave (auto-regressive).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops import bilinear_warp
from segjax.typing import Array

# method -> which of the real frames (before, place, target) it looks at
METHODS: dict[str, tuple[int, ...]] = {
    "reconstruction": (0, 1, 2),
    "prediction": (0, 1),
    "flow": (1, 2),
    "copy": (),
}
RGB_WARPS = ("bilinear", "reference")

# (variables, images (b, t, h, w, 3) in 0..255, flows (b, t - 1, h, w, 2) from each frame to the one before it)
#     -> motion (b, h, w, 2): the target's pixel (x, y) shows what is at (x + u, y + v) of the frame before it
PredictMotion = Callable[[Any, Array, Array], Array]


class Carried(NamedTuple):
    """What travels: image float32 (b, h, w, 3) in 0..255 and label uint8 (b, h, w) train ids, 255 = ignored."""

    image: Array
    label: Array


class Ignored(NamedTuple):
    """Shares of the pixels (b,) that became ignored in a step, by the first reason that holds for them.

    view: they come from outside the picture. before: from a pixel that was ignored already. cycle: motion there and
    back does not return. error: the moved image differs from the real frame.
    """

    view: Array
    before: Array
    cycle: Array
    error: Array


def out_of_view(motion: Array) -> Array:
    """Whether the pixel that a motion (b, h, w, 2) points to lies outside the picture; bool (b, h, w)."""
    h, w = motion.shape[1:3]
    x = jnp.arange(w, dtype=motion.dtype) + motion[..., 0]
    y = jnp.arange(h, dtype=motion.dtype)[:, None] + motion[..., 1]
    return (x < -0.5) | (x >= w - 0.5) | (y < -0.5) | (y >= h - 0.5)  # as nearest rounds: half up


def cycle_error(motion: Array, reverse: Array) -> Array:
    """Pixels (b, h, w) between a pixel and where motion and then reverse, both (b, h, w, 2), lead it back to."""
    back = bilinear_warp(reverse, motion)
    return jnp.sqrt(jnp.square(motion + back).sum(-1))


def carry(
    state: Carried,
    motion: Array,
    *,
    first: bool,
    rgb_warp: str = "bilinear",
    target: Array | None = None,
    reverse: Array | None = None,
    ignore_out_of_view: bool = True,
    max_cycle_error: float = 0.0,
    max_image_error: float = 0.0,
    ignore_label: int = 255,
) -> tuple[Carried, Ignored]:
    """One step: image and label moved by `motion` (b, h, w, 2) in pixels, labels by the nearest pixel.

    first: whether this is the first step of a chain. rgb_warp: "bilinear" moves the image so in every step and keeps
    its fractions; "reference" is the published chain: bilinear in the first step, nearest later, and grey levels cut
    to whole numbers after each.
    target: the real frame (b, h, w, 3) in 0..255, needed where max_image_error > 0: pixels that differ from it by more
    grey levels, in the mean over the channels, become ignored. reverse: the motion back, from the place to the target
    (b, h, w, 2), needed where max_cycle_error > 0: pixels that it brings back more pixels away become ignored. 0 = off.
    ignore_out_of_view: pixels from outside the picture become ignored, instead of repeating its border (published).
    Raises ValueError for an unknown rgb_warp, or an image that is needed and not given.
    """
    if rgb_warp not in RGB_WARPS:
        raise ValueError(f"rgb_warp={rgb_warp!r}; choose one of {RGB_WARPS}")
    published = rgb_warp == "reference"
    image = bilinear_warp(state.image, motion, method="nearest" if published and not first else "bilinear")
    if published:
        image = jnp.floor(jnp.clip(image, 0.0, 255.0))
    label = bilinear_warp(state.label[..., None], motion, method="nearest")[..., 0]

    nowhere = jnp.zeros(label.shape, bool)
    reasons = [out_of_view(motion) if ignore_out_of_view else nowhere, label == ignore_label, nowhere, nowhere]
    if max_cycle_error > 0:
        if reverse is None:
            raise ValueError("max_cycle_error needs the reverse motion")
        reasons[2] = cycle_error(motion, reverse) > max_cycle_error
    if max_image_error > 0:
        if target is None:
            raise ValueError("max_image_error needs the target frame")
        reasons[3] = jnp.abs(image - target.astype(image.dtype)).mean(-1) > max_image_error
    bad, shares = nowhere, []
    for reason in reasons:
        shares.append((reason & ~bad).mean((1, 2), dtype=jnp.float32))
        bad |= reason
    return Carried(image, jnp.where(bad, jnp.asarray(ignore_label, label.dtype), label)), Ignored(*shares)


def make_step(method: str, predict_motion: PredictMotion | None = None, **options: Any) -> Callable:
    """A compiled step(variables, state, images, flows, target, reverse, first=...) -> (state, picture, ignored).

    method: one of METHODS. images: uint8 (b, t, h, w, 3), the real frames that the method looks at, None where it needs
    only flow. flows: float32 (b, t - 1, h, w, 2), of each of these frames to the one before; None for "copy".
    target, reverse: None where the options need none. options: those of `carry`.
    picture: the image as uint8, rounded (or cut off, as published).
    """
    if METHODS[method] and method in ("reconstruction", "prediction") and predict_motion is None:
        raise ValueError(f"method {method!r} needs predict_motion")

    @functools.partial(jax.jit, static_argnames="first")
    def step(variables, state, images, flows, target, reverse, *, first):
        if method == "copy":
            motion = jnp.zeros((*state.label.shape, 2), jnp.float32)
        elif method == "flow":
            motion = flows[:, 0]
        else:
            motion = predict_motion(variables, images.astype(jnp.float32), flows).astype(jnp.float32)
        state, ignored = carry(state, motion, first=first, target=target, reverse=reverse, **options)
        picture = jnp.clip(jnp.floor(state.image + 0.5), 0, 255).astype(jnp.uint8)
        return state, picture, ignored

    return step


def first_state(images: Array, labels: Array) -> Carried:
    """The state before the first step; images uint8 (b, h, w, 3), labels uint8 (b, h, w)."""
    return Carried(jnp.asarray(images).astype(jnp.float32), jnp.asarray(labels).astype(jnp.uint8))
