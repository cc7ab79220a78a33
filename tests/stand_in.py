"""A formula in the place of a trained network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from segjax.data import LabelMap
from segjax.errors import UserError
from segjax.inference import Network
from segjax.ops import adaptive_avg_pool
from segjax.typing import SegOutput


class Formula(NamedTuple):
    """What `Network` calls of a linen module."""

    logits: Callable

    def apply(self, variables, images, *, train):
        assert not train
        return SegOutput(self.logits(variables, images))


def network(logits: Callable, label_map: LabelMap, variables: Any = ()) -> Network:
    """logits: (variables, images (b, h, w, 3) float32 in 0..1) -> (b, h, w, k)."""
    spec = {"name": "formula", "num_classes": label_map.num_classes, "options": {}}
    return Network(spec, Formula(logits), variables, "none", label_map, step=1, info={})


def open_brightness(checkpoint: str) -> Network:
    """Stands where a checkpoint called "good" would be opened: three classes by brightness."""
    if checkpoint != "good":
        raise UserError(f"there is no checkpoint in {checkpoint}")
    palette = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)], np.uint8)
    classes = LabelMap.identity(("dark", "grey", "bright"), palette)
    return network(lambda v, x: -jnp.abs(x[..., :1] - v), classes, jnp.array([0.0, 0.5, 1.0]))


class Ladder:
    """The outputs of a ladder network without its network: each is a linear map of the image's means in its cells.

    Heads aux16 .. aux2 have cells of so many pixels, aux_spp1 .. aux_spp8 grids of so many rows.
    """

    strides, rows = (16, 8, 4, 2), (1, 2, 4, 8)

    def __init__(self, classes: int):
        self.classes = classes
        names = [*(f"aux{s}" for s in self.strides), *(f"aux_spp{r}" for r in self.rows)]
        self.loss_weights = {"logits": 0.6, **dict.fromkeys(names, 0.4 / len(names))}
        cells = [{"cell": s} for s in self.strides] + [{}] * len(self.rows)
        self.loss_names = {name: ("soft_target_cross_entropy", options) for name, options in zip(names, cells)}

    @property
    def params(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {name: rng.normal(size=(3, self.classes)).astype(np.float32) for name in self.loss_weights}

    def grid(self, name: str, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of an output for an image of size (h, w): of the stride, floored, or near square cells."""
        number = int(name.strip("aux_sp"))
        if name.startswith("aux_spp"):
            return number, max(1, round(number * size[1] / size[0]))
        return size[0] // number, size[1] // number

    def apply(self, variables, images, *, train, rngs, mutable):
        size, w = images.shape[1:3], variables["params"]
        aux = {name: adaptive_avg_pool(images, self.grid(name, size)) @ w[name] for name in self.loss_names}
        return SegOutput(images @ w["logits"], aux), {"batch_stats": {}}
