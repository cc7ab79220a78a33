"""Sizes and operations that others published for networks, beside those counted here: a part of docs/models.md.

The rows of "Efficient Ladder-style DenseNets" (Kreso et al.) are those of its Tables 1, 2, 5 and 9. Its DenseNets were
counted in the form for random initial weights, without auxiliary heads. Three rows fit no network that we know of; for
them the nearest one is counted here, and its distance stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax import models
from segjax.costs.modules import module_costs
from segjax.costs.networks import abstract_variables, forward, inference_costs
from segjax.costs.products import Cost
from segjax.costs.receptive_field import receptive_field
from segjax.models.layouts import LAYOUTS
from segjax.models.ldn import TRUNKS


class Published(NamedTuple):
    """Figures that others published for a network, to compare with those counted here.

    name: name in `segjax.models`.
    size: (h, w) of one image.
    parameters, multiply_adds: their figures; multiply-adds of convolutions only.
    within: relative error of the rounded multiply-adds.
    source: where the figures are from.
    num_classes: classes that they counted.
    aux: whether they counted the auxiliary head.
    options: of the network.
    parameters_within: error of their rounded number of parameters.
    norms: whether they add one operation for each value that enters a batch norm.
    passes: images of this size that they counted.
    """

    name: str
    size: tuple[int, int]
    parameters: float
    multiply_adds: float
    within: float
    source: str
    num_classes: int = 19
    aux: bool = False
    options: Mapping[str, Any] = {}
    parameters_within: float = 0
    norms: bool = False
    passes: float = 1

    def ours(self) -> Cost:
        """Returns the cost counted here for the same network; its multiply-adds follow their convention."""
        model = models.create(self.name, self.num_classes, **self.options)
        images = jax.ShapeDtypeStruct((1, *self.size, 3), jnp.float32)
        variables = abstract_variables(model, images)
        if self.aux:
            costs = module_costs(forward(model), variables, images)
        else:
            costs = inference_costs(self.name, self.num_classes, self.options, variables, images, 1)
        total = Cost()
        for cost in costs.values():
            total += cost
        total.multiply_adds = round(self.passes * (total.multiply_adds + self.norms * total.norm_values))
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


def _ladder(
    name: str, millions: float, giga: float, source: str, *, within: float = 0.01, gap: float = 0.06, passes: float = 1,
    **options: Any,
) -> Published:  # fmt: skip
    """Returns a row of the paper: parameters in millions, operations in 10^9 for an image of 1024x1024."""
    return Published(
        name, (1024, 1024), millions * 1e6, giga * 1e9, within, source, options={"aux": False, **options},
        parameters_within=gap * 1e6, norms=True, passes=passes,
    )  # fmt: skip


_RANDOM: dict[str, Any] = {"random_init": True}
LADDERS = (
    _ladder("ldn121", 8.2, 56.1, "Table 1: DN121 32", layout="32", **_RANDOM),
    _ladder("ldn121", 9.5, 66.5, "Tables 1, 2, 5, 9: LDN121 64-4; Table 9: NoAux", **_RANDOM),
    _ladder("ldn121", 9.5, 536.2, "Table 2: LDN121 64-4 MS, five scales", passes=8.0625, **_RANDOM),
    _ladder("ldn121", 9.0, 75.4, "Tables 1, 2, 5: LDN121 32-4", layout="32to4", **_RANDOM),
    _ladder("ldn121", 9.9, 66.2, "Table 2: LDN121 128-4", layout="128to4", **_RANDOM),
    _ladder("ldn121", 9.4, 154.5, "Table 1: LDN121 32-2 (nearest)", within=0.011, gap=0.08, layout="32to2", **_RANDOM),
    _ladder("ldn161", 30.0, 138.7, "Table 2: LDN161 64-4", **_RANDOM),
    _ladder("ldn169", 15.6, 88.8, "Table 1: LDN169 32-4", layout="32to4", spp_features=512, **_RANDOM),
    _ladder("ldn121", 10.2, 66.7, "Table 9: LDN121 64-4 NoSPP", spp="none", **_RANDOM),
    _ladder("ldn121", 10.6, 66.9, "Table 9: LDN121 64-4 SPP [17] (nearest)", gap=0.26, spp="pspnet", **_RANDOM),
    _ladder("ldn121", 8.7, 54.2, "Table 9: LDN121 64-4 DWS", separable=True, **_RANDOM),
    _ladder("lrn18", 13.3, 55.7, "Tables 1, 5: ResNet18 32-4"),
    _ladder("lrn50", 26.9, 109.0, "Tables 1, 5: ResNet50 32-4"),
    _ladder("lrn101", 45.9, 186.7, "Tables 1, 5: ResNet101 32-4"),
    _ladder("ldn_dpn68", 13.7, 59.0, "Table 1: DPN68 32-4 (nearest)", within=0.14),
    _ladder("ldn121", 8.2, 147.8, "Table 1: DDN-121 8", layout="8", **_RANDOM),
    _ladder("ldn121", 8.6, 174.8, "Table 1: LDDN-121 8-4", layout="8to4", form="released", **_RANDOM),
    _ladder("ldn121", 8.9, 87.0, "Table 1: LDDN-121 16-4", layout="16to4", form="released", **_RANDOM),
)


def comparison(names: Sequence[str]) -> str:
    """Returns Markdown tables of the published figures of these networks, beside ours."""
    lines = [
        "",
        "## Against the figures of others",
        "",
        "Their convention is ours: a multiplication and the addition after it count once, convolutions only. "
        "torchvision (which calls them GFLOPS) counts 21 classes and the auxiliary head, and so does that row of ours.",
        "",
        "| network | size | their G | ours | source |",
        "|---|---|---|---|---|",
    ]
    for row in PUBLISHED:
        if row.name in names:
            figures = f"{row.multiply_adds / 1e9:g} | {row.ours().multiply_adds / 1e9:.3f}"
            lines.append(f"| `{row.name}` | {'x'.join(map(str, row.size))} | {figures} | {row.source} |")
    ladders = [row for row in LADDERS if row.name in names]
    return "\n".join(lines + (_ladder_tables(ladders) if ladders else [])) + "\n"


def _ladder_tables(rows: Sequence[Published]) -> list[str]:
    lines = [
        "",
        "### Ladder DenseNets",
        "",
        'Kreso et al., "Efficient Ladder-style DenseNets": parameters (M) and operations on an image of 1024x1024 (G), '
        "where a value that enters a batch norm counts as one more operation. Without auxiliary heads. The paper's "
        "multi-scale row counts no mirror images.",
        "",
        "| row of the paper | network and options | their M | ours | their G | ours | apart |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        options = " ".join(f"{key}={value}" for key, value in row.options.items() if key != "aux")
        cost = row.ours()
        apart = f"{100 * (cost.multiply_adds / row.multiply_adds - 1):+.1f} %"
        lines.append(
            f"| {row.source} | `{' '.join((row.name, options)).strip()}` | {row.parameters / 1e6:.1f} | "
            f"{cost.parameters / 1e6:.3f} | {row.multiply_adds / 1e9:.1f} | {cost.multiply_adds / 1e9:.2f} | {apart} |"
        )
    lines += [
        "",
        "Side of the square of the image that a value of the smallest map depends on, before the pyramid pooling joins "
        "values of the whole image:",
        "",
        "| layout | `ldn121` | `ldn161` | `ldn169` | `lrn18` | `lrn50` | `lrn101` | `ldn_dpn68` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = ("ldn121", "ldn161", "ldn169", "lrn18", "lrn50", "lrn101", "ldn_dpn68")
    for layout in LAYOUTS:
        cells = [ladder_field(name, layout) for name in names]
        lines.append(f"| {layout} | {' | '.join(str(cell or '') for cell in cells)} |")
    return lines


def ladder_field(name: str, layout: str) -> int:
    """Returns the receptive field, pixels, of the smallest map of a ladder network; 0 if the layout does not fit it."""
    model = models.create(name, 19, layout=layout, aux=False)
    if layout not in TRUNKS[model.trunk].layouts:
        return 0
    images = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    variables, smallest = abstract_variables(model, images), f"stride{model.plan().down}"
    return receptive_field(lambda v, x: model.apply(v, x, train=False).features[smallest], variables, images)
