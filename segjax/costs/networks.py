"""Costs of the networks by name, and the page of docs/ that lists them. Networks are traced, not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from segjax import models
from segjax.costs.modules import Cost, cost_table, module_costs, saved_for_backward
from segjax.errors import UserError
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


def print_summary(
    name: str,
    *,
    size: tuple[int, int],
    num_classes: int,
    batch: int = 1,
    depth: int | None = None,
    options: Mapping[str, Any] | None = None,
    compile: bool = False,
) -> None:
    """Prints the costs of a network of `segjax.models`; the command `segjax summary`.

    size: (h, w) of the images, of which there are `batch`.
    depth: see `module_costs`.
    options: options of the network.
    compile: whether to compile the network for the memory that XLA plans.

    Raises UserError for an unknown network or option, or if the backend does not report memory.
    """
    options = dict(options or {})
    model = models.create(name, num_classes, **options)
    images = jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)
    costs = model_costs(name, size, num_classes=num_classes, batch=batch, depth=depth, **options)
    table = cost_table(costs, title=f"{name}, {num_classes} classes, {batch} x {'x'.join(map(str, size))}")
    Console(width=Console(width=1000).measure(table).maximum).print(table)  # all digits, also on a narrow terminal
    variables = abstract_variables(model, images)
    params, statistics = variables["params"], {key: value for key, value in variables.items() if key != "params"}
    print(f"parameters: {_mebibytes(params)} in float32, statistics {_mebibytes(statistics)}")
    saved = sum(cost.saved_bytes for cost in costs.values())
    print(f"training keeps {saved / 2**20:,.0f} MiB of activations for the backward pass")
    if compile:
        for what, planned in planned_memory(model, params, statistics, images).items():
            backend = jax.default_backend()
            print(f"{what} needs {planned / 2**20:,.0f} MiB on {backend} beside parameters, images and results")
    print("multiply-adds: convolutions and matrix products with kernels; activations: what these write")


def planned_memory(model: Any, params: Any, statistics: Any, images: Any) -> dict[str, int]:
    """Returns the bytes of temporary memory in the compiled forward pass and in the compiled gradient.

    Both are compiled for the default backend; on a CPU the savings of remat are not visible.

    params, statistics, images: arrays or shapes.
    Raises UserError if the backend does not report memory.
    """

    def loss(params, statistics, images):
        return sum(head.sum() for head in jax.tree.leaves(training(model)(params, statistics, images)))

    programs = {
        "inference": jax.jit(forward(model)).lower({**statistics, "params": params}, images),
        "the gradient of a training step": jax.jit(jax.grad(loss)).lower(params, statistics, images),
    }
    analyses = {what: lowered.compile().memory_analysis() for what, lowered in programs.items()}
    if None in analyses.values():
        raise UserError(f"the {jax.default_backend()} backend does not report memory; leave --compile out")
    return {what: analysis.temp_size_in_bytes for what, analysis in analyses.items()}


def _mebibytes(tree: Any) -> str:
    return f"{sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) / 2**20:,.2f} MiB"


def model_page(names: Sequence[str], size: tuple[int, int], *, num_classes: int = 19) -> str:
    """Returns a Markdown page with a row for each network: parameters, multiply-adds, activations that training keeps.

    size: (h, w) of one image.
    """
    shown = "x".join(map(str, size))
    lines = [
        "# Networks",
        "",
        "Made by `segjax summary --all` (do not edit):",
        "",
        "```bash",
        f"segjax summary --all --size={shown} --output=docs/models.md",
        "```",
        "",
        f"Defaults of each network, {num_classes} classes, one image of {shown}, float32. Multiply-adds: convolutions "
        "and matrix products with learned kernels in inference, where auxiliary heads do not run; resizing, BatchNorm "
        "and activations are not counted. Kept to train: what the backward pass keeps of the forward pass, auxiliary "
        "heads included, and the same with `remat=True`. Loss weights: as published.",
        "",
        "Stage by stage: `segjax summary --model=NAME --size=HxW`; module by module: with `--depth=3`.",
        "",
        "| network | parameters, M | multiply-adds, G | kept to train, GiB | with remat, GiB | loss weights |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(name, size, num_classes) for name in names]
    return "\n".join(lines) + "\n"


def _row(name: str, size: tuple[int, int], num_classes: int) -> str:
    model = models.create(name, num_classes)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = abstract_variables(model, images)
    costs = inference_costs(name, num_classes, {}, variables, images, 1)
    remat = models.create(name, num_classes, remat=True)
    kept = [sum(_saved(m, variables, images, 1).values()) / 2**30 for m in (model, remat)]
    cells = (
        f"{sum(cost.parameters for cost in costs.values()) / 1e6:.2f}",
        _digits(sum(cost.multiply_adds for cost in costs.values()) / 1e9),
        *map(_digits, kept),
        ", ".join(f"{head} {weight:g}" for head, weight in model.loss_weights.items()),
    )
    return f"| `{name}` | {' | '.join(cells)} |"


def _digits(x: float) -> str:
    """Returns a number with three digits and no exponent."""
    return f"{x:.1f}" if x >= 100 else f"{x:.2f}" if x >= 1 else f"{x:.3f}"
