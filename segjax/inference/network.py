"""Trained networks: the one way from a folder or a file to predictions."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from segjax import augment, models, ops, parallel
from segjax.data import LabelMap
from segjax.data.resized import Resize, read_resize
from segjax.errors import UserError, choose
from segjax.inference.labels import Labels, labeller, predictor
from segjax.remote import fetch, is_remote, read_address
from segjax.typing import Array, SegOutput, Variables
from segjax.weights.runs import load_for_inference, read_meta

log = logging.getLogger("segjax")

# family -> end of the error for a network of another family
_USES = {
    "image": ("labels no image; give a run of a stage of kind train"),
    "video": ("is no video network; give a stage of kind train_video"),
    "propagation": ("labels no video from keyframes; give a stage of kind train_gsvnet"),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with trained variables.

    spec: {"name", "num_classes", "options"}; the options contain the dtype of the computation.
    module: of flax.
    variables: on the device.
    normalisation: key of `augment.NORMALISATION` for its images, "" for a video network.
    label_map: of its classes, None for a network without classes.
    step: training step of its variables.
    info: everything else in the checkpoint, for example the flow of a video network.
    """

    spec: Mapping[str, Any]
    module: Any
    variables: Variables
    normalisation: str
    label_map: LabelMap | None
    step: int
    info: Mapping[str, Any]

    @property
    def has_keyframes(self) -> bool:
        """Whether it labels video from keyframes, see `models.video_segmenter`."""
        return bool(self.spec.get("keyframe"))

    def labeller(
        self, *, confidence: bool = False, top_k: int = 0, entropy: bool = False, **views: Any
    ) -> Callable[[Array], Labels]:
        """Returns a function images uint8 (b, h, w, 3) -> Labels.

        The batch is split over the devices of this process, see `parallel.over_local_devices`.

        confidence: whether the labels contain the probability of the ids.
        top_k: number of most probable classes in the labels, 0 for none.
        entropy: whether the labels contain the entropy of the probabilities.
        views: keyword arguments of `views.predict`.

        Raises UserError for a top_k above the number of classes; for impossible views when the function is called.
        """
        classes = self.spec["num_classes"]
        if not 0 <= top_k <= classes:
            raise UserError(f"top_k={top_k} must be from 0 to {classes}, the number of classes of the network.")
        options = dict(variables=self.variables, confidence=confidence, top_k=top_k, entropy=entropy, **views)
        return _of_module(labeller, self.module, self.normalisation, options)

    def predictor(self, **views: Any) -> Callable[[Array], jax.Array]:
        """Returns a function images uint8 (b, h, w, 3) -> class ids (b, h, w); see `labeller`.

        views: keyword arguments of `views.predict`. Raises UserError for impossible ones when it is called.
        """
        label = self.labeller(**views)
        return lambda images: label(images).ids

    def logits(self, images: Array) -> jax.Array:
        """Returns the logits (b, h, w, k) of images uint8 (b, h, w, 3), from one view of the whole image."""
        mean, std = augment.normalisation(self.normalisation)
        return self.module.apply(self.variables, augment.normalise(images, mean=mean, std=std), train=False).logits


def open_network(
    path: str | Path, *, kind: str = "image", dtype: str = "trained", resize: Resize | None = None
) -> Network:
    """Opens a trained network.

    path: training run, stage, checkpoint folder, single checkpoint, or file of exported weights.
    kind: required family, key of `models.FAMILIES`.
    dtype: of the computation. "trained" is the dtype of the training, or float32 on a CPU; see also `compute_dtype`.
    resize: of the images to label; a warning is logged if those of the training were resized and these are not so.

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
    if kind == "image":
        _compare_size(path, info, resize)
    return Network(
        spec,
        models.from_spec(spec),
        jax.device_put(variables),
        info.get("normalisation", ""),
        LabelMap.from_dict(label_map, name=f"the label map in {path}") if label_map else None,
        info["step"],
        info,
    )


def open_labelling(path: str | Path) -> Network:
    """Opens a trained network that labels images, or video from keyframes. Raises UserError as `open_network` does."""
    return open_network(path, kind="propagation" if read_meta(path)["model"].get("keyframe") else "image")


def _compare_size(path: str | Path, info: Mapping[str, Any], resize: Resize | None) -> None:
    trained = read_resize((info.get("dataset") or {}).get("resize"), "dataset.resize")
    if trained and trained != resize:
        log.warning(
            "the network in %s was trained on images resized %s, and the images here are %s; views such as scales=0.5 "
            "or a base_size make up for it",
            path, trained, f"resized {resize}" if resize else "not resized",
        )  # fmt: skip


def _with_dtype(spec: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    return {**spec, "options": {**spec["options"], "dtype": dtype}}


def class_ids(
    module: Any, normalisation: str, outputs: Sequence[str] = (), **views: Any
) -> Callable[[Variables, Array], Any]:
    """Returns a jitted function (variables, images uint8 (b, h, w, 3)) -> class ids (b, h, w).

    Unlike `Network.predictor`, it takes the variables as an argument, which change during training.

    module: of an image network.
    normalisation: key of `augment.NORMALISATION`.
    outputs: names of outputs, for a function to {name: class ids} from one forward pass; see `output_logits`.
    views: keyword arguments of `views.predict`.

    Raises UserError for an unknown normalisation.
    """
    return _of_module(predictor, module, normalisation, views, outputs)


def output_logits(output: SegOutput, names: Sequence[str], size: tuple[int, int]) -> dict[str, Array]:
    """Returns name -> logits (b, *size, k) of outputs of a network: "logits", and auxiliary ones by their names.

    Logits of another size are resized bilinearly, with pixels' edges aligned.
    """
    found = {name: output.logits if name == "logits" else output.aux[name] for name in names}
    return {name: x if x.shape[1:3] == size else ops.resize(x, size) for name, x in found.items()}


def output_names(output: SegOutput) -> tuple[str, ...]:
    """Returns the names of the outputs that label pixels: auxiliary ones from coarse to fine, then "logits"."""
    maps = {name: x.shape[1] for name, x in output.aux.items() if len(x.shape) == 4}
    return (*sorted(maps, key=lambda name: (maps[name], name)), "logits")


def _of_module(
    make: Callable[..., Any], module: Any, normalisation: str, options: Mapping[str, Any], outputs: Sequence[str] = ()
) -> Any:
    """Returns make(apply, normalise=..., **options) for a module; make: `labeller` or `predictor`."""
    mean, std = augment.normalisation(normalisation)

    def apply(variables: Variables, images: Array) -> Any:
        output = module.apply(variables, images, train=False)
        return output_logits(output, outputs, images.shape[1:3]) if outputs else output

    return make(apply, normalise=functools.partial(augment.normalise, mean=mean, std=std), **options)


def find_run(name: str, workdir: Path | None) -> Path:
    """Returns the folder of a stage, or the path itself.

    name: stage of the run in `workdir`, a path, or a remote address, of which the local copy is returned.
    workdir: folder of the run, None for a path only.

    Raises UserError if the run has no such stage and the path does not exist either.
    """
    inside = None if workdir is None else workdir / name
    if inside is not None and inside.is_dir():
        return inside
    if is_remote(name):
        return fetch(read_address(name, "checkpoint"), "checkpoint")
    path = Path(name).expanduser()
    if inside is not None and not path.exists():
        raise UserError(f"checkpoint={name!r} is neither a stage of {workdir} that was run nor a path; run it first.")
    return path


def compute_dtype(name: str) -> str:
    """Returns the dtype of the computation: "auto" becomes bfloat16 on accelerators and float32 on a CPU.

    The platform is that of `ops.made_for`, else this process's.

    Raises UserError for a name other than auto, float32 and bfloat16.
    """
    if name == "auto":
        return "float32" if ops.platform() == "cpu" else "bfloat16"
    return choose({"float32": "float32", "bfloat16": "bfloat16"}, name, where="train.dtype")


def images_at_once(batch: int | None) -> int:
    """Returns the batch of a command: None becomes 1 per CPU device and 4 per accelerator of this process.

    A batch that leaves devices idle is logged.
    """
    devices = jax.local_device_count()
    if batch is None:
        return devices * (1 if jax.default_backend() == "cpu" else 4)
    if (used := parallel.devices_of(batch, devices)) < devices:
        log.warning("a batch of %d uses %d of %d devices; a multiple of %d uses all", batch, used, devices, devices)
    return batch
