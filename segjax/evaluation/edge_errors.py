"""Whether warped labels are wrong where their edges are, as a filter that is guided by edges takes for granted.

Source: Lee et al., GSVNet (ICIP 2021), section 3.4.3 and appendix B.3 (Fig. A7).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment
from segjax.models.guided_filter import label_edges
from segjax.models.video_segmenter import VideoSegmenter
from segjax.ops import resize_argmax
from segjax.typing import Array, Variables

COUNTS = ("edge_wrong", "edge", "wrong", "all")


@partial(jax.jit, static_argnames=("module", "normalisation"))
def warped_maps(
    module: VideoSegmenter, variables: Variables, frames: Array, label: Array, *, normalisation: str
) -> dict[str, Array]:
    """Returns maps of the last frame's labels as they are warped from the frame before, a keyframe, and not corrected.

    module, variables: of both networks; the propagation network has a guided filter.
    frames: uint8 (b, t, h, w, 3). label: true ids (b, h, w).
    Returns ids (b, h, w); and bool (b, h, w): "edge", in cells that the filter takes for edges; "wrong", "labelled".
    """
    mean, std = augment.normalisation(normalisation)
    before, now = (augment.normalise(frames[:, n], mean=mean, std=std) for n in (-2, -1))
    start = module.apply(variables, before, method="start")
    _, kept = module.apply(variables, start, now, before, method="step", mutable=["intermediates"])
    (moved,) = kept["intermediates"]["propagation"]["warped"]  # b h' w' k
    size = label.shape[1:]
    ids = resize_argmax(moved, size, align_corners=True)
    edge = label_edges(moved, binary=True)[..., 0] > 0
    for axis in (1, 2):
        edge = jnp.repeat(edge, module.propagation.stride, axis=axis)
    labelled = label < moved.shape[-1]
    return {"ids": ids, "edge": edge[:, : size[0], : size[1]], "wrong": (ids != label) & labelled, "labelled": labelled}


def edge_errors(
    module: VideoSegmenter, variables: Variables, batches: Iterable[Mapping[str, np.ndarray]], *, normalisation: str
) -> dict[str, float]:
    """Returns how edges and errors of warped labels go together, over labelled pixels.

    module, variables: see `warped_maps`. batches: see `data.eval_snippets`, of two frames or more.

    Returns {"share": of pixels in cells with an edge, "wrong_at_edges", "wrong_elsewhere": shares of these pixels that
    are wrong, "errors_at_edges": share of the wrong pixels, "correlation": of both maps}; nan where nothing is counted.
    """
    total = dict.fromkeys(COUNTS, 0)
    for batch in batches:
        arguments = (batch["image"], batch["label"])
        maps = jax.device_get(warped_maps(module, variables, *arguments, normalisation=normalisation))
        counted = maps["labelled"] & (np.asarray(batch["weight"]) > 0)[:, None, None]
        edge, wrong = maps["edge"] & counted, maps["wrong"] & counted
        for name, found in zip(COUNTS, (edge & wrong, edge, wrong, counted)):
            total[name] += int(found.sum())
    return shares(**total)


def shares(edge_wrong: int, edge: int, wrong: int, all: int) -> dict[str, float]:  # noqa: A002
    """Returns the numbers of `edge_errors` from numbers of pixels: at edges and wrong, at edges, wrong, and all."""

    def share(part: float, whole: float) -> float:
        return part / whole if whole else math.nan

    spread = math.sqrt(edge * (all - edge) * wrong * (all - wrong))
    return {
        "share": share(edge, all),
        "wrong_at_edges": share(edge_wrong, edge),
        "wrong_elsewhere": share(wrong - edge_wrong, all - edge),
        "errors_at_edges": share(edge_wrong, wrong),
        "correlation": share(all * edge_wrong - edge * wrong, spread),
    }
