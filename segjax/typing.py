"""Types that every layer shares, and the letters used for dimensions.

    b  images of a batch      h  height, rows        w  width, columns
    t  frames of a video      c  features, channels  k  classes
    n  tiles, windows, crops

A shape is written in the order of the array's axes: `logits (b, h, w, k)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

Array = jax.Array | np.ndarray
Batch = Mapping[str, Array]
# what losses compare the logits with:
#   labels (b, h, w) int32        ignored pixels have the ignore label
#   part (b,) int32               part of the training data: 0 = real, 1 .. = extra data, in the order of the recipe
#   soft_ids (b, h, w, n) int32   of soft labels: the n most probable classes, 255 = none
#   soft_shares (b, h, w, n) float32   and their probabilities, 0..1
#   teacher (b, h, w, k) float32   logits of another network
#   cells: grid -> counts (b, h', w', k) int32 of the labels, for losses of coarse outputs, see losses/cells.py
Targets = Mapping[str, Any]
Variables = Mapping[str, Any]  # {"params": nested dict, "batch_stats": nested dict}


class Enlargement(NamedTuple):
    """The last step of an image network: its heads enlarged to the images' size, see models/heads.py.

    heads: outputs that were enlarged.
    size: rows and columns of the images.
    align_corners, padded: see `models.heads.upsample_logits`.
    """

    heads: tuple[str, ...]
    size: tuple[int, int]
    align_corners: bool
    padded: tuple[int, int] | None


@flax.struct.dataclass
class SegOutput:
    """Output of every network.

    logits: (b, h, w, k) float32, at the size of the input image.
    aux: name -> auxiliary logits, (b, h', w', k) float32, at the size that the network defines.
    features: name -> intermediate map; XLA removes unused ones. Every image network has "low.logits", (b, h', w', k)
        float32: its logits before their last enlargement to the image's size (models/heads.py).
    enlargement: how logits and aux follow from the features "low.NAME"; no array. None if they do not.
    """

    logits: Array
    aux: Mapping[str, Array] = flax.struct.field(default_factory=dict)
    features: Mapping[str, Array] = flax.struct.field(default_factory=dict)
    enlargement: Enlargement | None = flax.struct.field(pytree_node=False, default=None)


@flax.struct.dataclass
class Sum:
    """Sum of values and their count, the result of losses and metrics; sums of parts add up exactly.

    value, count: () float32.
    """

    value: Array
    count: Array

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.value + other.value, self.count + other.count)

    def mean(self) -> Array:
        """Returns value / count, () float32; 0, with zero gradient, if nothing was counted."""
        # the inner `where` too: the gradient of the branch not taken would be 0 * inf = nan
        empty = self.count == 0
        return jax.numpy.where(empty, 0.0, self.value / jax.numpy.where(empty, 1.0, self.count))
