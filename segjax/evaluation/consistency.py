"""Temporal consistency: the share of pixels with the class that optical flow leads to in the frame before.

Labels can be right and flicker, or wrong and steady; so the number stands beside that of the true labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment
from segjax.evaluation.snippets import carried_states, state_ids
from segjax.models.video_segmenter import VideoSegmenter
from segjax.ops import bilinear_warp
from segjax.typing import Array, Variables


@dataclasses.dataclass
class Agreement:
    """Pixels that agree with the frame before, and pixels in view in both frames.

    carried: (t - 1,) by the distance d of the frame before from the keyframe; the last one has distance d + 1.
    renewed: (t - 1,) by that distance too; the last frame is a keyframe.
    in_view: number of pixels.
    truth, truth_in_view: of the true labels of both frames.
    """

    carried: np.ndarray
    renewed: np.ndarray
    in_view: int
    truth: int
    truth_in_view: int

    def share(self, interval: int) -> float:
        """Returns the share of a stream whose every `interval`-th frame is a keyframe; nan without pixels in view."""
        agree = self.renewed[interval - 1] + self.carried[: interval - 1].sum()
        return float(agree / (interval * self.in_view)) if self.in_view else float("nan")

    def of_truth(self) -> float:
        """Returns the share of the true labels; nan without a pair of labelled frames."""
        return self.truth / self.truth_in_view if self.truth_in_view else float("nan")


def agreement_of_snippets(
    module: VideoSegmenter,
    variables: Variables,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    normalisation: str,
    scale: float | None = None,
) -> Agreement:
    """Compares the last two frames of snippets.

    module, variables: of both networks. normalisation, scale: see `snippet_class_ids`.
    batches: see `data.eval_snippets`, with flow.
    """
    count = jax.jit(agreement(module, normalisation, scale))
    total: Any = None
    for batch in batches:
        names = ("image", "flow", "in_view", "label", "label_before", "weight")
        found = jax.device_get(count(variables, *(batch[name] for name in names)))
        found = [np.asarray(part, np.int64) for part in found]
        total = found if total is None else [one + two for one, two in zip(total, found)]
    carried, renewed, in_view, truth, truth_in_view = total
    return Agreement(carried, renewed, int(in_view), int(truth), int(truth_in_view))


def agreement(module: VideoSegmenter, normalisation: str, scale: float | None) -> Callable[..., Any]:
    """Returns a function of a batch -> the numbers of an `Agreement`, int32."""
    mean, std = augment.normalisation(normalisation)

    def count(variables, frames, flow, in_view, label, label_before, weight):
        b, t, *size, _ = frames.shape
        in_view = in_view & (weight[:, None, None] > 0)
        now, before = (
            state_ids(module, variables, states, size).reshape(b, t, *size)
            for states in carried_states(module, variables, frames, mean=mean, std=std, scale=scale)
        )

        def agreeing(one: Array, other: Array, where: Array) -> Array:
            """Counts pixels whose class (b, h, w) is that where the flow leads to in the other labels."""
            led = bilinear_warp(other[..., None], flow, method="nearest")[..., 0]
            return jnp.sum((one == led) & where, dtype=jnp.int32)

        # a keyframe number n has the distance t - 2 - n in the frame before
        order = range(t - 2, -1, -1)
        carried = jnp.stack([agreeing(now[:, n], before[:, n], in_view) for n in order])
        renewed = jnp.stack([agreeing(now[:, t - 1], before[:, n], in_view) for n in order])
        led = bilinear_warp(label_before[..., None], flow, method="nearest")[..., 0]
        both = in_view & (label != 255) & (led != 255)
        counts = (
            jnp.sum(in_view, dtype=jnp.int32),
            agreeing(label, label_before, both),
            jnp.sum(both, dtype=jnp.int32),
        )
        return carried, renewed, *counts

    return count
