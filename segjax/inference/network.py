"""A trained network as it is used: the one way from a folder or file to something that predicts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from segjax import augment, models
from segjax.data import LabelMap
from segjax.errors import UserError, choose
from segjax.inference.views import predictor
from segjax.typing import Array, Variables
from segjax.weights.runs import load_for_inference

# family -> what a network of another one is told
_USES = {
    "image": ("labels no image; give a run of a stage of kind train"),
    "video": ("is no video network; give a stage of kind train_video"),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with trained variables.

    spec: {"name", "num_classes", "options"}, with the dtype it computes in. module: of flax. variables: on the device.
    normalisation: name of that of its images, "" for a video network. label_map: what its classes mean, None for a
    network without classes. step: training step of its variables.
    info: what else the checkpoint holds, the flow's statistics of a video network for example.
    """

    spec: Mapping[str, Any]
    module: Any
    variables: Variables
    normalisation: str
    label_map: LabelMap | None
    step: int
    info: Mapping[str, Any]

    def predictor(self, **views: Any) -> Callable[[Array], jax.Array]:
        """Returns images uint8 (b, h, w, 3) -> class ids (b, h, w); views: options of `views.predict`."""
        return functools.partial(class_ids(self.module, self.normalisation, **views), self.variables)

    def logits(self, images: Array) -> jax.Array:
        """Returns the logits (b, h, w, k) of images uint8 (b, h, w, 3), one view of the whole image."""
        mean, std = augment.normalisation(self.normalisation)
        return self.module.apply(self.variables, augment.normalise(images, mean=mean, std=std), train=False).logits


def open_network(path: str | Path, *, kind: str = "image", dtype: str = "trained") -> Network:
    """Opens the network of a training run, a stage or a checkpoint of it, or a file of exported weights.

    kind: its family in `models.FAMILIES`. dtype: "trained" for that of the training, or float32 on a CPU; others as in
    `compute_dtype`.
    Raises UserError when there is no intact checkpoint, or the network is of another family.
    """
    spec, variables, info = load_for_inference(path)
    if models.family_of(spec["name"]) != kind:
        raise UserError(f"{path} holds {spec['name']}, which {_USES[kind]}.")
    if dtype != "trained":
        spec = _with_dtype(spec, compute_dtype(dtype))
    elif jax.default_backend() == "cpu":
        spec = _with_dtype(spec, "float32")  # a CPU emulates bfloat16, which is slower and no more faithful
    label_map = info.get("label_map")
    return Network(
        spec,
        models.from_spec(spec),
        jax.device_put(variables),
        info.get("normalisation", ""),
        LabelMap.from_dict(label_map, name=f"the label map in {path}") if label_map else None,
        info["step"],
        info,
    )


def _with_dtype(spec: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    return {**spec, "options": {**spec["options"], "dtype": dtype}}


def class_ids(module: Any, normalisation: str, **views: Any) -> Callable[[Variables, Array], jax.Array]:
    """Returns a jitted (variables, images uint8 (b, h, w, 3)) -> class ids (b, h, w), for variables that change.

    normalisation: name of that of the images. views: options of `views.predict`.
    """
    mean, std = augment.normalisation(normalisation)
    return predictor(
        lambda variables, images: module.apply(variables, images, train=False).logits,
        normalise=functools.partial(augment.normalise, mean=mean, std=std),
        **views,
    )


def find_run(name: str, workdir: Path | None) -> Path:
    """Returns the folder of a checkpoint: that of a stage of the run in `workdir` called so, or the path itself.

    Raises UserError when a run has no such stage and there is no such path either.
    """
    inside = None if workdir is None else workdir / name
    if inside is not None and inside.is_dir():
        return inside
    path = Path(name).expanduser()
    if inside is not None and not path.exists():
        raise UserError(f"checkpoint={name!r} is neither a stage of {workdir} that was run nor a path; run it first.")
    return path


def compute_dtype(name: str) -> str:
    """Returns the dtype of the computation; "auto" is bfloat16 on accelerators, float32 on a CPU."""
    if name == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return choose({"float32": "float32", "bfloat16": "bfloat16"}, name, where="train.dtype")


def images_at_once(batch: int | None) -> int:
    """Returns the batch of a command: as given, else 1 on a CPU and 4 on accelerators."""
    return batch or (1 if jax.default_backend() == "cpu" else 4)
