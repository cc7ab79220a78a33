"""Opens the sources of motion: optical flow by name, and the trained video network of a training run."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import models, weights
from segjax.data import flow
from segjax.data.flow import RecordFlow
from segjax.data.sources import Record
from segjax.data.video import FrameIndex
from segjax.errors import UserError, did_you_mean
from segjax.inference.network import compute_dtype, find_run, open_network
from segjax.propagation.carry import PredictMotion

WITHOUT_NETWORK = ("flow", "copy", "truth")
METHOD_OF = {2: "prediction", 3: "reconstruction"}  # by the number of frames that the network sees


@dataclasses.dataclass(frozen=True)
class VideoNetwork:
    """A video network opened for propagation, or the settings that replace it.

    method: that the network was trained for, key of `propagation.carry.METHODS`.
    predict: motion from real frames, None without a network.
    variables: of the network, () without one.
    description: name and training step, for reports and records.
    flow: {"name", "options", "mean", "std"} of the flow in training, which is the default here too; empty without a
        network.
    """

    method: str
    predict: PredictMotion | None
    variables: Any
    description: str
    flow: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def open_video_network(
    checkpoint: str, method: str | None = None, *, workdir: str | Path | None = None
) -> VideoNetwork:
    """Opens the video network of a training run, or returns a `VideoNetwork` without predict for none.

    checkpoint: stage of the run in `workdir`, or a folder; "" for none.
    method: required of the network. None accepts any, and is "flow" without a network.
    workdir: folder of the run.

    Raises UserError if the method requires a checkpoint and none is given, the method uses none, the checkpoint cannot
    be opened, or its network is no video network or was trained for another method.
    """
    if not checkpoint:
        if method not in (None, *WITHOUT_NETWORK):
            raise UserError(f"method {method!r} needs the checkpoint of a video network; or use method 'flow'.")
        return VideoNetwork(method or "flow", None, (), "none")
    if method in WITHOUT_NETWORK:
        raise UserError(f"method {method!r} uses no network; leave out checkpoint={checkpoint}, or choose another.")
    path = find_run(checkpoint, None if workdir is None else Path(workdir))
    network = open_network(path, kind="video", dtype="auto")
    able, name = METHOD_OF[network.module.frames], network.spec["name"]
    if method not in (None, able):
        raise UserError(f"{path} holds {name}, which was trained for {able}, not {method}; set method={able}.")

    def predict(variables, images, flows):
        return network.module.apply(variables, images, flows, train=False).flow

    return VideoNetwork(able, predict, network.variables, f"{name}, step {network.step}", network.info["flow"])


def open_flow(name: str, options: Mapping[str, Any] | None = None, *, index: FrameIndex | None = None) -> RecordFlow:
    """Opens optical flow by name.

    name: key of `data.flow.FLOWS`, or of `models.FLOW_MODELS` with the options of `NetworkFlow`.
    options: of the flow.
    index: of the source's frames, so that "exact" can cross several of them.

    Raises UserError for an unknown name or option, with the nearest one, and for a network whose weights are missing or
    do not fit.
    """
    if name in models.FLOW_MODELS:
        return NetworkFlow(name, **(options or {}))
    if name not in flow.FLOWS:
        raise UserError(f"flow={name!r} is not known.{did_you_mean(name, [*flow.FLOWS, *models.FLOW_MODELS])}")
    return flow.create(name, options, index=index)


def choose_flow(flow: str | Mapping[str, Any], network: VideoNetwork) -> tuple[str, dict[str, Any]]:
    """Returns (name, options) of the flow to use.

    flow: name, {"name", "options"}, or "" for the flow of the network's training, which is "dis" without a network.
    network: see `open_video_network`.
    """
    if isinstance(flow, str):
        flow = {"name": flow} if flow else network.flow or {"name": "dis"}
    return flow["name"], dict(flow.get("options", {}))


class NetworkFlow:
    """A flow network with the interface of the other flows; for threads, not for worker processes.

    Each call of the network gets 4, 2 or 1 pairs. So it is compiled for these batches only, and memory does not grow
    with the number of pairs.

    name: key of `models.FLOW_MODELS`.
    weights, key: file, and the dictionary of tensors in it; see `segjax.weights.load`.
    dtype: of the computation, see `compute_dtype`.
    bgr: whether the network gets images with blue first, as in VPLR's release.

    Raises UserError if weights are missing or do not fit, and for a bgr that is no bool.
    """

    def __init__(self, name: str, *, weights: str = "", key: str = "", dtype: str = "auto", bgr: bool = False):
        if not weights:
            raise UserError(
                f"flow={name!r} needs its weights: give flow.options.weights=FILE (--flow-weights=FILE), or use 'dis'."
            )
        if not isinstance(bgr, bool):
            raise UserError(f"flow.options.bgr={bgr!r} must be True or False.")
        module = models.create_flow(name, dtype=compute_dtype(dtype))
        self._variables = jax.device_put(_load(name, weights, module, key))
        self._apply: Callable = jax.jit(module.apply)
        self._channels = slice(None, None, -1 if bgr else 1)
        self._lock = threading.Lock()

    def __call__(self, a: Sequence[Record], b: Sequence[Record]) -> np.ndarray:
        """Returns the flow from each a to its b, float32 (n, h, w, 2), in pixels; all frames have one size."""
        parts, start = [], 0
        while start < len(a):
            count = next(n for n in (4, 2, 1) if n <= len(a) - start)
            parts_of = ([record.image for record in records[start : start + count]] for records in (a, b))
            pair = (np.stack(images)[..., self._channels] for images in parts_of)
            with self._lock:  # one batch on the device at a time bounds its memory, however many threads call
                parts.append(np.asarray(self._apply(self._variables, *pair)))
            start += count
        return np.concatenate(parts)

    def __getstate__(self):
        raise UserError("a flow network cannot be used in worker processes; set loader.num_workers=0.")


def _shapes(module: Any) -> Any:
    pair = models.FAMILIES["flow"].inputs(module)
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *pair))


def _load(name: str, path: str, module: Any, key: str) -> Any:
    """Returns the variables in a file.

    Raises UserError as `weights.load` does; if they are those of another flow network, the error names it.
    """
    try:
        return weights.load(path, _shapes(module), key=key, remedies={"key": "flow.options.key (--key)="})[0]
    except UserError:
        for other in models.FLOW_MODELS:
            if other != name and _fits(path, models.create_flow(other), key):
                raise UserError(
                    f"{path} holds the weights of {other}, not of {name}; give flow.name={other!r} (--flow={other}), "
                    f"or the weights of {name}."
                ) from None
        raise


def _fits(path: str, module: Any, key: str) -> bool:
    try:
        weights.load(path, _shapes(module), key=key)
    except UserError:
        return False
    return True
