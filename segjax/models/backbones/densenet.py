"""DenseNet-121/161/169 (Huang et al., CVPR 2017) with the torchvision layer table and tensor names.

Every layer appends `growth` channels to its input. torchvision's last norm is an option; its classifier is not
included. A block whose stride would exceed `output_stride` dilates its 3x3 convolutions, and the transition before it
does not pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.layers import relu, rematerialised
from segjax.ops import avg_pool, max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]


class Table(NamedTuple):
    """Layer table: channels that a layer adds, channels of the stem, layers of each block."""

    growth: int
    stem: int
    blocks: tuple[int, int, int, int]


TABLES = {121: Table(32, 64, (6, 12, 24, 16)), 161: Table(48, 96, (6, 12, 36, 24)), 169: Table(32, 64, (6, 12, 32, 32))}


class DenseLayer(nn.Module):
    """Dense layer: norm, ReLU, 1x1 convolution to 4 growth channels, norm, ReLU, 3x3 convolution to growth channels."""

    growth: int
    conv: ModuleDef
    norm: ModuleDef
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to the new channels (b, h, w, growth)."""
        x = self.conv(4 * self.growth, 1, name="conv1")(relu(self.norm(name="norm1")(x)))
        return self.conv(self.growth, 3, dilation=self.dilation, name="conv2")(relu(self.norm(name="norm2")(x)))


class DenseNet(nn.Module):
    """DenseNet trunk: images (b, h, w, 3) -> {stride: deepest map of that stride}, finest first.

    The maps are the outputs of the dense blocks, before any norm. With `norm5` the last one is the ReLU of that norm.

    depth: 121, 161 or 169.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 8, 16 or 32.
    norm5: with torchvision's norm after the last block.
    remat: recompute each layer in the backward pass.
    """

    depth: int
    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 32
    norm5: bool = False
    remat: bool = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {4: (b, h/4, w/4, c), ...} down to output_stride, of images (b, h, w, 3)."""
        stages = self.stages(images)
        maps = {stride: stages[f"denseblock{i}"] for i, (stride, _) in enumerate(self._plan(), start=1)}
        return maps | ({self.output_stride: relu(stages["norm5"])} if self.norm5 else {})

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """Returns the map of each stage, for images (b, h, w, 3).

        The keys are "stem" (after the pooling), "denseblock1", "transition1", ..., "denseblock4", and with `norm5`
        "norm5" (before its ReLU).
        Raises UserError for a depth or an output stride that does not exist.
        """
        plan = self._plan()
        table, layer = TABLES[self.depth], rematerialised(DenseLayer, self.remat)
        x = self.conv(table.stem, 7, 2, name="features.conv0")(images)
        x = max_pool(relu(self.norm(name="features.norm0")(x)), 3, 2, 1)
        maps = {"stem": x}
        for i, (count, (stride, dilation)) in enumerate(zip(table.blocks, plan), start=1):
            if i > 1:
                name = f"features.transition{i - 1}"
                x = self.conv(x.shape[-1] // 2, 1, name=f"{name}.conv")(relu(self.norm(name=f"{name}.norm")(x)))
                if stride > plan[i - 2][0]:
                    x = avg_pool(x, 2)
                maps[f"transition{i - 1}"] = x
            for j in range(1, count + 1):
                name = f"features.denseblock{i}.denselayer{j}"
                x = jnp.concatenate([x, layer(table.growth, self.conv, self.norm, dilation, name=name)(x)], -1)
            maps[f"denseblock{i}"] = x
        if self.norm5:
            maps["norm5"] = self.norm(name="features.norm5")(x)
        return maps

    def _plan(self) -> list[tuple[int, int]]:
        """Returns, for each block, its stride to the image and the dilation of its 3x3 convolutions."""
        if self.depth not in TABLES:
            raise UserError(f"DenseNet depth {self.depth} does not exist; choose one of {', '.join(map(str, TABLES))}.")
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"output_stride={self.output_stride} is not possible with a DenseNet; choose 8, 16 or 32.")
        return [(min(s, self.output_stride), max(1, s // self.output_stride)) for s in (4, 8, 16, 32)]
