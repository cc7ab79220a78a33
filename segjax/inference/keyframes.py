"""Which frames of a stream are keyframes: every so many, or those whose carried labels have become doubtful."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.scene_cuts import CUT_HISTOGRAM, CUT_RESIDUAL, colour_histogram, distance_of
from segjax.errors import UserError
from segjax.models.propagation import FLOW_UNIT
from segjax.ops import bilinear_warp
from segjax.typing import Array

AUTO = "auto"
USUAL_INTERVAL = 4  # if a command names none
LONGEST = 10  # interval of "auto", if a command names none
UNEXPLAINED = 40.0  # grey levels; on CamVid at 15 Hz they have added up after 4 to 5 frames


class Keyframes:
    """Chooses the keyframes of a stream.

    interval: every `interval`-th frame is one. Or "auto": a frame is one at a cut (other colours, or the flow does not
        explain it), and when what the flow does not explain since the keyframe adds up to too much. So a camera that
        stands needs few, and one that turns many.
    longest: interval after which "auto" takes a keyframe in any case.
    unexplained: grey levels that are too much, see `unexplained_difference`.

    Raises UserError for an interval that is neither "auto" nor a whole number of 1 or more, and for such a `longest`.
    """

    def __init__(self, interval: int | str, longest: int = LONGEST, unexplained: float = UNEXPLAINED):
        if interval != AUTO and not _is_count(interval):
            raise UserError(f"interval={interval!r} must be a whole number of 1 or more, or {AUTO!r}.")
        if not _is_count(longest):
            raise UserError(f"max_interval={longest!r} must be a whole number of 1 or more.")
        self.auto = interval == AUTO
        self.longest = longest if self.auto else interval
        self._most = unexplained
        self.restart()

    @property
    def every(self) -> bool:
        """Whether every frame is a keyframe."""
        return not self.auto and self.longest == 1

    def restart(self) -> None:
        """Makes the next frame a keyframe."""
        self._since, self._sum = 0, 0.0
        self._colours: np.ndarray | None = None  # of the frame before

    def due(self, frame: np.ndarray) -> bool:
        """Returns whether the next frame, uint8 (h, w, 3), must be a keyframe, before its labels are computed."""
        cut = False
        if self.auto:
            colours = colour_histogram(frame)
            cut = self._colours is not None and distance_of(self._colours, colours) > CUT_HISTOGRAM
            self._colours = colours
        return cut or not 0 < self._since < self.longest

    def doubtful(self, unexplained: Any) -> bool:
        """Returns whether a frame must be labelled again, as a keyframe; unexplained: of this frame, grey levels."""
        self._sum += float(unexplained)
        return unexplained > CUT_RESIDUAL or self._sum > self._most

    def took(self, keyframe: bool) -> None:
        """Notes that the next frame was labelled."""
        self._since, self._sum = (1, 0.0) if keyframe else (self._since + 1, self._sum)


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1


def unexplained_difference(between: Mapping[str, Any], read: Array, before: Array, grey: Array) -> jax.Array:
    """Returns the mean absolute difference of a frame and the one before, moved by the flow of the network; float32 ().

    between: what the propagation network has sown; without a flow the frames are compared as they are.
    read, before: what it read of both frames, (1, h', w', 3).
    grey: grey levels per unit of these, (3,).
    """
    sown = jax.tree_util.tree_leaves_with_path(between)
    flows = [x for path, x in sown if jax.tree_util.DictKey("flow") in path]
    moved = bilinear_warp(before, flows[0] / FLOW_UNIT) if flows else before
    return (jnp.abs(read - moved) * grey).mean()
