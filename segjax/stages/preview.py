"""What is known of a run before its first stage runs: the networks of its checkpoints, trained or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from segjax import models
from segjax.errors import UserError
from segjax.inference.network import find_run
from segjax.stages.dataset import Dataset
from segjax.stages.stage import Preview, Stage
from segjax.typing import SegOutput, Variables
from segjax.weights.runs import read_meta

CLASSES = 19  # of a network that is not trained yet; no name of a leaf or an output depends on it


def preview(name: str, stages: Mapping[str, tuple[Stage, Any]], workdir: Path | None, dataset: Dataset) -> Preview:
    """Returns what the stage `name` can know of its run.

    stages: name -> (kind, options) of the recipe's stages, in order.
    workdir: folder of the run, None without one.
    dataset: `config.dataset`.
    """
    order = list(stages)

    def spec_of(checkpoint: str) -> Mapping[str, Any]:
        if checkpoint not in order[: order.index(name)]:
            return read_meta(find_run(checkpoint, workdir))["model"]
        stage, options = stages[checkpoint]
        found = stage.network(options)
        if found is None:
            raise UserError(
                f"config key {name}.checkpoint={checkpoint!r} is a stage without the checkpoint of an image network; "
                "name one of kind train."
            )
        return spec_of(found) if isinstance(found, str) else found

    return Preview(name, workdir, dataset, spec_of)


def image_network(
    spec_of: Callable[[str], Mapping[str, Any]], checkpoint: str, key: str
) -> tuple[Any, Variables, SegOutput]:
    """Returns (module, variables, output) of the image network in a checkpoint, as shapes, in float32.

    spec_of: checkpoint -> spec, see `Preview.spec_of`.
    checkpoint: name of an earlier stage, or a path.
    key: config key that names it.

    Raises UserError for a network of another family, and as the network does.
    """
    spec = spec_of(checkpoint)
    if models.family_of(spec["name"]) != "image":
        raise UserError(
            f"config key {key}={checkpoint!r} holds {spec['name']}, which labels no image; name a stage of kind train."
        )
    options = {**spec["options"], "dtype": "float32", "remat": False}
    module = models.from_spec({"num_classes": CLASSES, **spec, "options": options})
    images = jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    return module, variables, jax.eval_shape(module.apply, variables, images)
