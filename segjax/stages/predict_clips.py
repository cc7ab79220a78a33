"""Predicts images, folders and videos with a trained network: the command `segjax predict`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax

from segjax import augment, inference, models
from segjax.data import LabelMap
from segjax.errors import UserError
from segjax.inference.clips import Clip
from segjax.inference.progress import progress_bar
from segjax.training.checkpoints import load_for_inference


def predict_clips(
    checkpoint: str,
    clips: Sequence[Clip],
    output: str | os.PathLike,
    *,
    batch: int | None = None,
    write: Sequence[str] = ("overlay", "ids"),
    alpha: float = 0.5,
    **views: Any,
) -> inference.FilesReport:
    """Loads the network of a run and writes what it predicts; see `segjax.inference.predict_files`.

    batch: images at once, by default 1 on CPU and 4 on accelerators. views: scales, flip, window and overlap of
    `segjax.inference.predictor`. Raises UserError for a checkpoint or files that cannot be used.
    """
    apply_fn, variables, normalise, classes = load_network(checkpoint)
    class_ids = inference.predictor(apply_fn, normalise=normalise, **views)
    with progress_bar("predict", sum(len(clip) for clip in clips)) as progress:
        return inference.predict_files(
            functools.partial(class_ids, variables),
            clips,
            output,
            palette=classes.palette,
            class_names=classes.class_names,
            decode=classes.with_ids().decode,
            write=write,
            batch=batch or (1 if jax.default_backend() == "cpu" else 4),
            alpha=alpha,
            progress=progress,
        )


def load_network(checkpoint: str) -> tuple[Callable, Any, Callable, LabelMap]:
    """(apply_fn, variables, normalise, label map) of a trained network."""
    spec, variables, info = load_for_inference(checkpoint)
    if spec["name"] in models.VIDEO_MODELS:
        raise UserError(
            f"{checkpoint} holds {spec['name']}, which labels no image; give a run of a stage of kind train."
        )
    options = dict(spec["options"])
    if jax.default_backend() == "cpu":
        options["dtype"] = "float32"  # a CPU emulates bfloat16, which is slower and no more faithful
    model = models.create(spec["name"], spec["num_classes"], **options)
    mean, std = augment.normalisation(info["normalisation"])
    return (
        lambda variables, images: model.apply(variables, images, train=False).logits,
        jax.device_put(variables),
        functools.partial(augment.normalise, mean=mean, std=std),
        LabelMap.from_dict(info["label_map"], name=f"the label map in {checkpoint}"),
    )
