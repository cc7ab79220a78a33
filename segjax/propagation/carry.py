"""Propagation of a labelled frame along its video (Zhu et al., CVPR 2019, section 3.2): pure functions of arrays.

A labelled frame t is propagated to t + 1, t + 2, ... one step at a time. Each step has a motion field from its target
to the frame before. A network predicts this field from real frames, or it is optical flow. The motion fields are
composed into one from the target to frame t, by which image and label of frame t are sampled once, whatever the number
of steps. The published chain instead moves the image and the label of the previous step (auto-regressive), and so blurs
the image in every step. Backward in time, the frames come in the opposite order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops import bilinear_warp, kernel_warp
from segjax.typing import Array

# method -> real frames that it sees: 0 = before the place, 1 = the place (source of the step), 2 = the target
METHODS: dict[str, tuple[int, ...]] = {
    "reconstruction": (0, 1, 2),
    "prediction": (0, 1),
    "flow": (1, 2),
    "copy": (),
    "truth": (),  # moves nothing: the dataset's own label of the target, the upper bound of the others
}
# rgb_warp -> kernel that samples the image of the labelled frame
COMPOSED = {"composed": "bilinear", "composed_bicubic": "bicubic", "composed_lanczos": "lanczos"}
RGB_WARPS = (*COMPOSED, "bilinear", "reference")

# (variables, images (b, t, h, w, 3) in 0..255, flows (b, t - 1, h, w, 2) from each frame to the one before it)
#     -> motion (b, h, w, 2): the target's pixel (x, y) shows the pixel (x + u, y + v) of the frame before it
PredictMotion = Callable[[Any, Array, Array], Array]


class Carried(NamedTuple):
    """State of a propagation.

    image: float32 (b, h, w, 3) in 0..255.
    label: train ids uint8 (b, h, w), 255 = ignored.
    source: image and label of the labelled frame, as above.
    path: (b, h, w, 2), in pixels; the composed motion, which points from each pixel to the labelled frame.
    lost: bool (b, h, w), whether a step has ignored a pixel for another reason than the label of the labelled frame.

    Chains that move the previous image and label leave `path` and `lost` as they were.
    """

    image: Array
    label: Array
    source: tuple[Array, Array]
    path: Array
    lost: Array


class Ignored(NamedTuple):
    """Shares (b,) of the pixels that a step ignores, by the first reason that applies to a pixel.

    view: the motion points outside the picture.
    before: the motion points to a pixel that is ignored already.
    cycle: motion there and back does not return to the pixel.
    error: the moved image differs from the real frame.
    """

    view: Array
    before: Array
    cycle: Array
    error: Array


def out_of_view(motion: Array) -> Array:
    """Returns whether the pixel that a motion (b, h, w, 2) points to lies outside the picture; bool (b, h, w)."""
    h, w = motion.shape[1:3]
    x = jnp.arange(w, dtype=motion.dtype) + motion[..., 0]
    y = jnp.arange(h, dtype=motion.dtype)[:, None] + motion[..., 1]
    return (x < -0.5) | (x >= w - 0.5) | (y < -0.5) | (y >= h - 0.5)  # the nearest warp rounds half up


def cycle_error(motion: Array, reverse: Array) -> Array:
    """Returns the distance (b, h, w), in pixels, between each pixel and the end of its path there and back.

    motion, reverse: the path there and the path back, (b, h, w, 2), in pixels.
    """
    back = bilinear_warp(reverse, motion)
    return jnp.sqrt(jnp.square(motion + back).sum(-1))


def compose(motion: Array, path: Array) -> Array:
    """Returns the motion (b, h, w, 2) from a target to the labelled frame: m(x) = u(x) + path(x + u(x)), in pixels.

    motion: u, from the target to the frame before, (b, h, w, 2).
    path: from that frame to the labelled frame, (b, h, w, 2), read bilinearly.

    Pixels from outside the picture take the nearest pixel of its border, as they do in a warp that repeats the border.
    """
    h, w = motion.shape[1:3]
    place = jnp.stack(jnp.meshgrid(jnp.arange(w), jnp.arange(h)), -1).astype(motion.dtype)
    end = jnp.clip(place + motion, 0, jnp.asarray([w - 1, h - 1], motion.dtype))
    inside = end == place + motion
    return jnp.where(inside, motion, end - place) + bilinear_warp(path, motion)


def carry(
    state: Carried,
    motion: Array,
    *,
    first: bool,
    rgb_warp: str = "composed",
    target: Array | None = None,
    reverse: Array | None = None,
    ignore_out_of_view: bool = True,
    max_cycle_error: float = 0.0,
    max_image_error: float = 0.0,
    ignore_label: int = 255,
) -> tuple[Carried, Ignored]:
    """Moves image and label by one step; returns the new state and the shares of ignored pixels.

    state: of the previous step.
    motion: (b, h, w, 2), in pixels; labels take the nearest pixel.
    first: whether this is the first step of a chain.
    rgb_warp: "composed" samples the labelled frame by the composed motion: the image bilinearly, the label nearest.
        "composed_bicubic" and "composed_lanczos" sample the image with sharper kernels, see `kernel_warp`. "bilinear"
        moves the image of the previous step bilinearly and keeps its fractions. "reference" is the published chain:
        bilinear in the first step, nearest in later ones, and grey levels truncated to integers after each.
    target: real frame (b, h, w, 3) in 0..255, required if max_image_error > 0.
    reverse: motion from the place to the target (b, h, w, 2), in pixels, required if max_cycle_error > 0.
    ignore_out_of_view: whether to ignore pixels from outside the picture; False repeats the border, as published.
    max_cycle_error: pixels; larger cycle errors are ignored, 0 = off.
    max_image_error: grey levels, mean over the channels; larger differences from the target are ignored, 0 = off.
    ignore_label: label of ignored pixels.

    Raises ValueError for an unknown rgb_warp, or a missing target or reverse motion.
    """
    if rgb_warp not in RGB_WARPS:
        raise ValueError(f"rgb_warp={rgb_warp!r}; choose one of {RGB_WARPS}")
    state = _move(state, motion, rgb_warp, first)
    image, label = state.image, state.label

    # in the order in which a pixel's first reason is counted
    nowhere = jnp.zeros(label.shape, bool)
    before = (label == ignore_label) | state.lost
    reasons = [out_of_view(motion) if ignore_out_of_view else nowhere, before, nowhere, nowhere]
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
    if rgb_warp in COMPOSED:
        state = state._replace(lost=state.lost | reasons[0] | reasons[2] | reasons[3])
    return state._replace(label=jnp.where(bad, jnp.asarray(ignore_label, label.dtype), label)), Ignored(*shares)


def _move(state: Carried, motion: Array, rgb_warp: str, first: bool) -> Carried:
    """Returns the state with image, label, path and lost pixels of the target, before this step's own checks."""
    if rgb_warp in COMPOSED:
        path, kernel = compose(motion, state.path), COMPOSED[rgb_warp]
        image, label = state.source
        if kernel == "bilinear":
            image = bilinear_warp(image, path)
        else:
            image = jnp.clip(kernel_warp(image, path, kernel=kernel), 0.0, 255.0)
        lost = _nearest(state.lost, motion)
        return state._replace(image=image, label=_nearest(label, path), path=path, lost=lost)
    published = rgb_warp == "reference"
    image = bilinear_warp(state.image, motion, method="nearest" if published and not first else "bilinear")
    if published:
        image = jnp.floor(jnp.clip(image, 0.0, 255.0))
    return state._replace(image=image, label=_nearest(state.label, motion))


def _nearest(values: Array, motion: Array) -> Array:
    return bilinear_warp(values[..., None], motion, method="nearest")[..., 0]


def make_step(method: str, predict_motion: PredictMotion | None = None, **options: Any) -> Callable:
    """Returns a compiled step.

    Its call is (variables, state, images, flows, target, reverse, first=...) -> (state, picture, ignored).

    method: key of METHODS except "truth".
    predict_motion: network of "reconstruction" and "prediction".
    options: keyword arguments of `carry`.

    images: real frames that the method sees, uint8 (b, t, h, w, 3), or None for a method without network.
    flows: flow from each of these frames to the one before, float32 (b, t - 1, h, w, 2), or None for "copy".
    target, reverse: see `carry`, or None if the options do not require them.
    picture: the image as uint8 (b, h, w, 3): rounded, or truncated as published.

    Raises ValueError if predict_motion is missing.
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
    """Returns the state before the first step, from images uint8 (b, h, w, 3) and labels uint8 (b, h, w)."""
    image, label = jnp.asarray(images).astype(jnp.float32), jnp.asarray(labels).astype(jnp.uint8)
    # made from the images, so that they lie on the same devices and the second step is not compiled again
    path, lost = 0 * image[..., :2], label != label
    return Carried(image, label, (image, label), path, lost)
