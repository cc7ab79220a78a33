"""Costs of the networks by name. Networks are traced, not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segjax import models
from segjax.costs.modules import module_costs, saved_for_backward
from segjax.costs.products import Cost
from segjax.typing import Array, Variables


def abstract_variables(model: Any, images: jax.ShapeDtypeStruct) -> Variables:
    """Returns the shapes of a network's variables; images: shape (b, h, w, 3)."""
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)


def forward(model: Any) -> Callable[[Variables, Array], Array]:
    """Returns a function (variables, images) -> logits, in evaluation."""
    return lambda variables, images: model.apply(variables, images, train=False).logits


def training(model: Any) -> Callable[..., Any]:
    """Returns a function (params, statistics, images) -> (logits, aux), as in a training step, with dropout."""

    def apply(params, statistics, images):
        rngs = {"dropout": jax.random.key(0)}
        output, _ = model.apply(
            {**statistics, "params": params}, images, train=True, mutable=["batch_stats"], rngs=rngs
        )
        return output.logits, output.aux

    return apply


def model_costs(
    name: str, size: tuple[int, int], *, num_classes: int = 19, batch: int = 1, depth: int | None = 1, **options: Any
) -> dict[str, Cost]:
    """Returns the cost of each module of a network, with what training keeps for the backward pass.

    name, options: network of `segjax.models` and its options.
    size: (h, w) of the images, of which there are `batch`.
    depth: see `module_costs`.

    Raises UserError for an unknown network or option.
    """
    model = models.create(name, num_classes, **options)
    images = jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)
    variables = abstract_variables(model, images)
    costs = inference_costs(name, num_classes, options, variables, images, depth)
    for group, saved in _saved(model, variables, images, depth).items():
        costs.setdefault(group, Cost()).saved_bytes += saved
    return costs


def inference_costs(
    name: str,
    num_classes: int,
    options: Mapping[str, Any],
    variables: Variables,
    images: jax.ShapeDtypeStruct,
    depth: int | None,
) -> dict[str, Cost]:
    """Returns the costs in inference: auxiliary heads have parameters, but do not run.

    name, options: network of `segjax.models` and its options.
    variables, images: shapes.
    depth: see `module_costs`.
    """
    quiet = {"aux": False} if "aux" in models.options(name) else {}
    model = models.create(name, num_classes, **{**options, **quiet})
    return module_costs(forward(model), variables, images, depth=depth)


def _saved(model, variables, images, depth):
    statistics = {key: value for key, value in variables.items() if key != "params"}
    return saved_for_backward(training(model), variables["params"], statistics, images, depth=depth)
