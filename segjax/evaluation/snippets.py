"""Scores of labelled video: one frame, labelled from keyframes at every distance before it.

Source: Lee et al., GSVNet (ICIP 2021), section 4.1. For an interval l, the distances are 0 .. l - 1. The average mIoU
is that of one confusion matrix over all of them, as in the released code; the minimum is that of the farthest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment, metrics
from segjax.evaluation.confusions import MAIN, Evaluation
from segjax.models.video_segmenter import VideoSegmenter
from segjax.ops import resize, resize_argmax
from segjax.typing import Array, Variables


def snippet_class_ids(
    module: VideoSegmenter, normalisation: str, *, scale: float | None = None
) -> Callable[[Variables, Array], dict[str, Array]]:
    """Returns a jitted function (variables, frames uint8 (b, t, h, w, 3)) -> name -> class ids (b, h, w).

    The ids are those of the last frame, from a keyframe "0", "1", .. frames before it; MAIN is the farthest, t - 1.

    module: of both networks; variables: of both.
    normalisation: key of `augment.NORMALISATION`.
    scale: factor by which keyframes are resized; None for that of the module.

    Raises UserError for an unknown normalisation.
    """
    mean, std = augment.normalisation(normalisation)

    @jax.jit
    def run(variables: Variables, frames: Array) -> dict[str, Array]:
        b, t, *size, _ = frames.shape
        states, _ = carried_states(module, variables, frames, mean=mean, std=std, scale=scale)
        ids = state_ids(module, variables, states, size).reshape(b, t, *size)
        return {MAIN if not n else str(t - 1 - n): ids[:, n] for n in range(t)}

    return run


def carried_states(
    module: VideoSegmenter, variables: Variables, frames: Array, *, mean: Any, std: Any, scale: float | None = None
) -> tuple[Any, Any]:
    """Carries the state of every frame, as a keyframe, to the last frame; returns (states there, states before it).

    The states are those of (b t) keyframes, by snippet and then by frame. Before the last frame, that of itself is not
    carried yet.

    frames: uint8 (b, t, h, w, 3). mean, std: of their normalisation. scale: see `snippet_class_ids`.
    """
    b, t, *size, _ = frames.shape
    images = augment.normalise(frames.reshape(b * t, *size, 3), mean=mean, std=std)
    states = module.apply(variables, images, scale, method="start")
    if module.propagation.full_frames:
        read = frames.astype(jnp.float32)
    else:
        read = resize(images, module.grid(size), align_corners=True).reshape(b, t, *module.grid(size), 3)

    def next_frame(held, number):
        """Carries the states of all keyframes before the frame `number` into it, and keeps the others."""
        states, _ = held
        one, before = (jnp.repeat(read[:, n], t, axis=0) for n in (number, number - 1))  # (b t) h' w' 3
        carried = module.apply(variables, states, one, before, method="step")
        earlier = jnp.tile(jnp.arange(t) < number, b)

        def pick(new, old):
            return jnp.where(earlier.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return (jax.tree.map(pick, carried, states), states), None

    held = (states, states)
    return jax.lax.scan(next_frame, held, jnp.arange(1, t))[0] if t > 1 else held


def state_ids(module: VideoSegmenter, variables: Variables, states: Any, size: Sequence[int]) -> Array:
    """Returns the class ids (n, *size) of n states."""
    logits = module.apply(variables, states, method="logits")
    return resize_argmax(logits, tuple(size), align_corners=True)


def by_distance(evaluation: Evaluation) -> list[np.ndarray]:
    """Returns the confusion matrices (k, k) of the distances 0, 1, .. of an evaluation of snippets."""
    return [*(evaluation.others[str(n)] for n in range(len(evaluation.others))), evaluation.matrix]


def interval_scores(matrices: Sequence[np.ndarray], interval: int) -> dict[str, float]:
    """Returns the average and the minimum mIoU of a keyframe interval, in 0..1.

    matrices: by distance, see `by_distance`.
    interval: l, from 1 to their number.
    """
    average = metrics.iou_scores(sum(matrices[:interval]))["miou"]
    return {"average": float(average), "minimum": float(metrics.iou_scores(matrices[interval - 1])["miou"])}
