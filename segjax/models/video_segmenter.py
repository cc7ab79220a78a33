"""A keyframe network and a propagation network as one: what a training of the second saves, and what labels a video."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.propagation import Propagation
from segjax.ops import resize
from segjax.typing import Array, SegOutput


class VideoSegmenter(nn.Module):
    """Video network for labels: frames (b, t, h, w, 3) -> coarse logits (b, h', w', k) of the last one.

    The first frame is the keyframe. Variables: those of its network below "keyframe", and of the other below
    "propagation".

    keyframe: image network.
    propagation: carries its logits on.
    scale: factor by which keyframes are resized, 0.75 as published.
    """

    keyframe: nn.Module
    propagation: Propagation
    scale: float = 1.0

    def __call__(self, frames: Array, train: bool = False) -> Array:
        """Returns the coarse logits of the last frame; frames: normalised floats."""
        state = self.start(frames[:, 0])
        for number in range(1, frames.shape[1]):
            state = self.step(state, frames[:, number], frames[:, number - 1], train)
        return self.propagation.logits(state)

    def of_keyframe(self, image: Array, scale: float | None = None) -> SegOutput:
        """Returns the output of the keyframe network, in evaluation.

        image: (b, h, w, 3), normalised floats.
        scale: factor by which it is resized; None for that of this network.

        Raises UserError for a scale at which nothing is left of the image.
        """
        scale = self.scale if scale is None else scale
        size = scaled_size(image.shape[1:3], scale)
        if min(size) < 1:
            raise UserError(f"keyframe.scale={scale} leaves nothing of images of {image.shape[1]}x{image.shape[2]}.")
        return self.keyframe(resize(image, size, align_corners=True) if scale != 1 else image, train=False)

    def start(self, image: Array, scale: float | None = None) -> Any:
        """Returns the state after a keyframe; arguments and errors as for `of_keyframe`."""
        return self.propagation.start(self.of_keyframe(image, scale), image.shape[1:3])

    def step(self, state: Any, image: Array, before: Array, train: bool = False, train_flow: bool = False) -> Any:
        """Returns the state after a further frame; see `GSVNet` for the arguments."""
        return self.propagation(state, image, before, train, train_flow)

    def logits(self, state: Any) -> Array:
        """Returns the coarse logits (b, h', w', k) of a state."""
        return self.propagation.logits(state)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the rows and columns (h', w') of the state of frames of `size`."""
        return self.propagation.grid(size)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Returns the rows and columns of an image of `size` that is resized by `scale`, rounded down."""
    return int(size[0] * scale + 1e-9), int(size[1] * scale + 1e-9)


def example_frames(module: VideoSegmenter) -> tuple[Array]:
    """Returns small arguments for the call of the network, all zeros: one keyframe and one further frame."""
    side = math.ceil(max(64, getattr(module.keyframe, "smallest", 1)) / min(module.scale, 1.0))
    return (jnp.zeros((1, 2, side, side, 3)),)
