"""Opens what moves labels: optical flow by name, and the trained video network of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from segjax.data import flow
from segjax.errors import UserError
from segjax.inference.propagate_chains import RecordFlow
from segjax.inference.propagation import PredictMotion

WITHOUT_NETWORK = ("flow", "copy")


@dataclasses.dataclass(frozen=True)
class VideoNetwork:
    """method: what it can do, see `propagation.METHODS`. predict, variables: None and () without a network.

    description: name and training step, for reports and records.
    """

    method: str
    predict: PredictMotion | None
    variables: Any
    description: str


def open_video_network(
    checkpoint: str, method: str | None = None, *, workdir: str | Path | None = None
) -> VideoNetwork:
    """The video network of a run, or what stands for none.

    checkpoint: a stage of the run in `workdir`, or a folder; "" for none. method: what the network must do, by default
    what it was trained for, and "flow" without one.
    Raises UserError when there is no checkpoint, it is of another method, or one is given that is not used.
    """
    if not checkpoint:
        if method not in (None, *WITHOUT_NETWORK):
            raise UserError(f"method {method!r} needs the checkpoint of a video network; or use method 'flow'.")
        return VideoNetwork(method or "flow", None, (), "none")
    if method in WITHOUT_NETWORK:
        raise UserError(f"method {method!r} uses no network; leave out checkpoint={checkpoint}, or choose another.")
    raise UserError(f"there is no checkpoint in {checkpoint}.")


def open_flow(name: str) -> RecordFlow:
    """Optical flow by name; UserError with a suggestion for one that is not known."""
    return flow.create(name)
