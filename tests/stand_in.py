"""A formula in the place of a trained network."""

from collections.abc import Callable
from typing import Any, NamedTuple

from segjax.data import LabelMap
from segjax.inference import Network
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
