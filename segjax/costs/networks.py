"""Costs of the networks by name, and the page of docs/ that lists them. Networks are traced, not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax import models
from segjax.costs.modules import Cost, module_costs, saved_for_backward
from segjax.typing import Array, Variables


class Published(NamedTuple):
    """Figures that others published for a network, to compare with those counted here.

    name: name in `segjax.models`.
    size: (h, w) of one image.
    parameters, multiply_adds: their figures; multiply-adds of convolutions only.
    within: relative error of the rounded figure.
    source: where the figure is from.
    num_classes: classes that they counted.
    aux: whether they counted the auxiliary head.
    """

    name: str
    size: tuple[int, int]
    parameters: int
    multiply_adds: float
    within: float
    source: str
    num_classes: int = 19
    aux: bool = False

    def ours(self) -> Cost:
        """Returns the cost counted here for the same network."""
        model = models.create(self.name, self.num_classes)
        images = jax.ShapeDtypeStruct((1, *self.size, 3), jnp.float32)
        variables = abstract_variables(model, images)
        if self.aux:
            costs = module_costs(forward(model), variables, images)
        else:
            costs = _inference_costs(self.name, self.num_classes, {}, variables, images, 1)
        total = Cost()
        for cost in costs.values():
            total += cost
        return total


_TORCHVISION_TABLE = ("torchvision's table of weights", 21, True)
PUBLISHED = (
    Published("fastscnn", (1024, 2048), 1_138_051, 6.71e9, 2e-3, "Tramac/Fast-SCNN-pytorch, run"),
    Published("swiftnet_r18", (1024, 1024), 11_797_071, 51.8e9, 2e-3, "orsic/swiftnet, run"),
    Published("swiftnet_r18_pyramid", (1024, 1024), 12_056_275, 64.1e9, 2e-3, "orsic/swiftnet, run"),
    Published("deeplabv3_r50", (520, 520), 42_004_074, 178.722e9, 1e-5, *_TORCHVISION_TABLE),
    Published("deeplabv3_r101", (520, 520), 60_996_202, 258.743e9, 1e-5, *_TORCHVISION_TABLE),
    Published("fcn_r50", (520, 520), 35_322_218, 152.717e9, 1e-5, *_TORCHVISION_TABLE),
    Published("fcn_r101", (520, 520), 54_314_346, 232.738e9, 1e-5, *_TORCHVISION_TABLE),
)


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
    costs = _inference_costs(name, num_classes, options, variables, images, depth)
    for group, saved in _saved(model, variables, images, depth).items():
        costs.setdefault(group, Cost()).saved_bytes += saved
    return costs


def _inference_costs(name, num_classes, options, variables, images, depth):
    """Returns the costs in inference: auxiliary heads have parameters, but do not run."""
    quiet = {"aux": False} if "aux" in models.options(name) else {}
    model = models.create(name, num_classes, **{**options, **quiet})
    return module_costs(forward(model), variables, images, depth=depth)


def _saved(model, variables, images, depth):
    statistics = {key: value for key, value in variables.items() if key != "params"}
    return saved_for_backward(training(model), variables["params"], statistics, images, depth=depth)


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
    lines += [
        "",
        "## Against the figures of others",
        "",
        "Their convention is ours: a multiplication and the addition after it count once, convolutions only. "
        "torchvision (which calls them GFLOPS) counts 21 classes and the auxiliary head, and so does that row of ours. "
        "The papers of the Ladder DenseNets add one operation for each value that enters a batch norm.",
        "",
        "| network | size | their G | ours | source |",
        "|---|---|---|---|---|",
    ]
    for published in PUBLISHED:
        if published.name in names:
            figures = f"{published.multiply_adds / 1e9:g} | {published.ours().multiply_adds / 1e9:.3f}"
            lines.append(
                f"| `{published.name}` | {'x'.join(map(str, published.size))} | {figures} | {published.source} |"
            )
    return "\n".join(lines) + "\n"


def _row(name: str, size: tuple[int, int], num_classes: int) -> str:
    model = models.create(name, num_classes)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = abstract_variables(model, images)
    costs = _inference_costs(name, num_classes, {}, variables, images, 1)
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
