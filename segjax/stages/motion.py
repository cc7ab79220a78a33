"""Opens what moves labels: optical flow by name, and the trained video network of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.data.flow import RecordFlow
from segjax.data.video import FrameIndex
from segjax.errors import UserError
from segjax.inference.propagation import PredictMotion
from segjax.stages.flows import make_flow
from segjax.stages.video import load_video_model

WITHOUT_NETWORK = ("flow", "copy")


@dataclasses.dataclass(frozen=True)
class VideoNetwork:
    """method: what it can do, see `propagation.METHODS`. predict, variables: None and () without a network.

    description: name and training step, for reports and records. flow: the optical flow it was trained with, settings
    of `make_flow`; None without a network.
    """

    method: str
    predict: PredictMotion | None
    variables: Any
    description: str
    flow: Mapping[str, Any] | None = None


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
    inside = Path(workdir or ".") / checkpoint
    module, variables, info = load_video_model(inside if inside.is_dir() else checkpoint)
    found = {2: "prediction", 3: "reconstruction"}[module.frames]
    if method not in (None, found):
        raise UserError(f"the network in {checkpoint} was trained for {found}, not for {method}; set method={found!r}.")

    def predict(variables, images, flows):
        return module.apply(variables, images, flows, train=False).flow

    return VideoNetwork(found, predict, variables, f"{info['model']['name']} step {info['step']}", info["flow"])


def open_flow(flow: str | Mapping[str, Any], network: VideoNetwork, source: Any) -> RecordFlow:
    """Optical flow by name or settings {"name", "options"}; "" is what the network was trained with, "dis" without one.

    source: the frames; exact flow looks them up. Raises UserError with a suggestion for a name that is not known.
    """
    if not flow:
        trained = network.flow or {"name": "dis"}
        settings = {"name": trained["name"], "options": trained.get("options", {})}
    else:
        settings = {"name": flow, "options": {}} if isinstance(flow, str) else dict(flow)
    return make_flow(settings, FrameIndex(source) if settings["name"] == "exact" else None)


def flow_name(flow: str | Mapping[str, Any], network: VideoNetwork) -> str:
    """Name of the optical flow that `open_flow` opens."""
    if not flow:
        return network.flow["name"] if network.flow else "dis"
    return flow if isinstance(flow, str) else flow["name"]
