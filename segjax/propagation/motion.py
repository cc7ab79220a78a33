"""Opens what moves labels: optical flow by name, and the trained video network of a run."""

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

WITHOUT_NETWORK = ("flow", "copy")
METHOD_OF = {2: "prediction", 3: "reconstruction"}  # by the number of frames the network looks at


@dataclasses.dataclass(frozen=True)
class VideoNetwork:
    """method: what it can do, see `propagation.METHODS`. predict, variables: None and () without a network.

    description: name and training step, for reports and records. flow: {"name", "options", "mean", "std"} of the flow
    it was trained with, which it should be given; empty without a network.
    """

    method: str
    predict: PredictMotion | None
    variables: Any
    description: str
    flow: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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
    path = find_run(checkpoint, None if workdir is None else Path(workdir))
    network = open_network(path, kind="video", dtype="auto")
    able, name = METHOD_OF[network.module.frames], network.spec["name"]
    if method not in (None, able):
        raise UserError(f"{path} holds {name}, which was trained for {able}, not {method}; set method={able}.")

    def predict(variables, images, flows):
        return network.module.apply(variables, images, flows, train=False).flow

    return VideoNetwork(able, predict, network.variables, f"{name}, step {network.step}", network.info["flow"])


def open_flow(name: str, options: Mapping[str, Any] | None = None, *, index: FrameIndex | None = None) -> RecordFlow:
    """Optical flow by name: one of `data.flow.FLOWS`, or a network of `models.FLOW_MODELS` with options weights=FILE.

    index: of the source's frames, so that "exact" can cross several of them. UserError with a suggestion for a name or
    option that is not known.
    """
    if name in models.FLOW_MODELS:
        return NetworkFlow(name, **(options or {}))
    if name not in flow.FLOWS:
        raise UserError(f"flow={name!r} is not known.{did_you_mean(name, [*flow.FLOWS, *models.FLOW_MODELS])}")
    return flow.create(name, options, index=index)


def choose_flow(flow: str | Mapping[str, Any], network: VideoNetwork) -> tuple[str, dict[str, Any]]:
    """Returns (name, options) of the flow to use.

    flow: a name, {"name", "options"}, or "": what the network was trained with, and "dis" without a network.
    """
    if isinstance(flow, str):
        flow = {"name": flow} if flow else network.flow or {"name": "dis"}
    return flow["name"], dict(flow.get("options", {}))


class NetworkFlow:
    """A flow network behind the call of the other providers; for several threads, not for worker processes.

    It sees 4, 2 or 1 pairs at once: it is compiled for these only, and memory does not grow with the pairs asked for.
    """

    def __init__(self, name: str, *, weights: str = "", dtype: str = "auto"):
        if not weights:
            raise UserError(
                f"flow={name!r} needs its weights: give flow.options.weights=FILE (--flow-weights=FILE), or use 'dis'."
            )
        module = models.create_flow(name, dtype=compute_dtype(dtype))
        pair = models.FAMILIES["flow"].inputs(module)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *pair))
        self._variables = jax.device_put(_load(weights, shapes))
        self._apply: Callable = jax.jit(module.apply)
        self._lock = threading.Lock()

    def __call__(self, a: Sequence[Record], b: Sequence[Record]) -> np.ndarray:
        """Flow of pairs of one size, float32 (n, h, w, 2)."""
        parts, start = [], 0
        while start < len(a):
            count = next(n for n in (4, 2, 1) if n <= len(a) - start)
            pair = (np.stack([record.image for record in records[start : start + count]]) for records in (a, b))
            with self._lock:  # one batch of pairs on the device at a time
                parts.append(np.asarray(self._apply(self._variables, *pair)))
            start += count
        return np.concatenate(parts)

    def __getstate__(self):
        raise UserError("a flow network cannot be used in worker processes; set loader.num_workers=0.")


def _load(path: str, shapes: Any) -> Any:
    variables, _ = weights.load(path, shapes)
    return variables
