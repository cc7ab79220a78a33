"""DenseNet-121/161/169 (Huang et al., CVPR 2017) with the torchvision layer table and tensor names.

Every layer appends `growth` channels to its input. torchvision's last norm is an option; its classifier is not
included. A block whose stride would exceed `output_stride` dilates its 3x3 convolutions, and the transition before it
does not pool.

A layer reads the list of all earlier maps of its block and joins them itself. So a layer that is recomputed in the
backward pass keeps the narrow maps only, and no joined one.

Ladder DenseNets (Kreso et al., "Efficient Ladder-style DenseNets", section 3.1) halve the maps in the middle of a block
(`splits`), pool the stem without overlap (`stem_pool=2`) and, from random initial weights, leave out the norm of the
stem and the first 1x1 convolutions (`stem_norm`, `early_bottlenecks`; released code).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.layers import Dropout, relu, rematerialised
from segjax.ops import avg_pool, max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]


class Table(NamedTuple):
    """Layer table: channels that a layer adds, channels of the stem, layers of each block."""

    growth: int
    stem: int
    blocks: tuple[int, ...]


class Part(NamedTuple):
    """Layers that run one after the other on maps of one size: a block, or half of a block that is split.

    block: number of the block, from 1.
    layers: numbers of its layers, from 1.
    stride: to the image.
    dilation: of the 3x3 convolutions.
    """

    block: int
    layers: range
    stride: int
    dilation: int


TABLES = {121: Table(32, 64, (6, 12, 24, 16)), 161: Table(48, 96, (6, 12, 36, 24)), 169: Table(32, 64, (6, 12, 32, 32))}


class DenseLayer(nn.Module):
    """Dense layer: norm, ReLU, 1x1 convolution to 4 growth channels, norm, ReLU, 3x3 convolution to growth channels.

    bottleneck: with the first norm, ReLU and 1x1 convolution.
    dropout: rate after the layer.
    train: drop values.
    """

    growth: int
    conv: ModuleDef
    norm: ModuleDef
    dilation: int = 1
    bottleneck: bool = True
    dropout: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> Array:
        """Maps the earlier maps [(b, h, w, c), ...] to the new channels (b, h, w, growth)."""
        x = joined(maps)
        if self.bottleneck:
            x = self.conv(4 * self.growth, 1, name="conv1")(relu(self.norm(name="norm1")(x)))
        x = self.conv(self.growth, 3, dilation=self.dilation, name="conv2")(relu(self.norm(name="norm2")(x)))
        return Dropout(self.dropout, train=self.train, name="drop")(x) if self.dropout else x


def joined(maps: Sequence[Array]) -> Array:
    """Returns the maps [(b, h, w, c), ...] as one map, their channels in this order."""
    return maps[0] if len(maps) == 1 else jnp.concatenate(maps, -1)


def dense_block(x: Array, layers: Sequence[nn.Module]) -> Array:
    """Returns x (b, h, w, c) with the channels that the layers append, in their order, (b, h, w, c + n growth)."""
    maps = [x]
    for layer in layers:
        maps.append(layer(list(maps)))
    return joined(maps)


class DenseNet(nn.Module):
    """DenseNet trunk: images (b, h, w, 3) -> {stride: deepest map of that stride}, finest first.

    The maps are the outputs of the dense blocks, before any norm. With `norm5` the last one is the ReLU of that norm.

    depth: 121, 161 or 169.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 8, 16 or 32.
    norm5: with torchvision's norm after the last block.
    remat: recompute each layer in the backward pass.
    growth: channels that a layer adds; the stem has twice as many. None for the value of the depth.
    blocks: layers of each block; None for the values of the depth.
    stem_stride: of the first convolution, 2 (torchvision) or 1.
    stem_pool: side of the stem's max pooling: 3, padded (torchvision), or 2, without padding.
    stem_norm: with norm and ReLU after the first convolution.
    stem_map: also return the map before the stem's pooling.
    early_bottlenecks: with a 1x1 convolution also in layers whose input has at most 4 growth channels.
    splits: numbers of the blocks that a 2x2 mean halves in the middle. The stride of what follows doubles; the map
        before it is one more result.
    layer_dropout: rate after each layer.
    train: drop values.
    """

    depth: int
    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 32
    norm5: bool = False
    remat: bool = False
    growth: int | None = None
    blocks: tuple[int, ...] | None = None
    stem_stride: int = 2
    stem_pool: int = 3
    stem_norm: bool = True
    stem_map: bool = False
    early_bottlenecks: bool = True
    splits: tuple[int, ...] = ()
    layer_dropout: float = 0.0
    train: bool = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {4: (b, h/4, w/4, c), ...} down to the last stride, of images (b, h, w, 3)."""
        stages, parts = self.stages(images), self.parts()
        maps = {self.stem_stride: stages["conv0"]} if self.stem_map else {}
        maps |= {part.stride: stages[self._stage(part)] for part in parts}
        return maps | ({parts[-1].stride: relu(stages["norm5"])} if self.norm5 else {})

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """Returns the map of each stage, for images (b, h, w, 3).

        The keys are "conv0" (before the pooling), "stem" (after it), "denseblock1", "transition1", ..., "denseblock4",
        and with `norm5` "norm5" (before its ReLU). The first half of a block that is split is "denseblock3a".
        Raises UserError for a depth, an output stride or other options that are not possible.
        """
        parts = self.parts()
        maps = {"conv0": self._stem(images)}
        maps["stem"] = x = max_pool(maps["conv0"], 3, 2, 1) if self.stem_pool == 3 else max_pool(maps["conv0"], 2)
        before = None
        for part in parts:
            if before and part.block > before.block:
                x = maps[f"transition{before.block}"] = self._transition(x, before, part)
            elif before:
                x = avg_pool(x, 2)
            x = maps[self._stage(part)] = dense_block(x, self._layers(x.shape[-1], part))
            before = part
        if self.norm5:
            maps["norm5"] = self.norm(name="features.norm5")(x)
        return maps

    def _stem(self, images: Array) -> Array:
        """Returns the map before the pooling, of images (b, h, w, 3)."""
        x = self.conv(self.table.stem, 7, self.stem_stride, name="features.conv0")(images)
        return relu(self.norm(name="features.norm0")(x)) if self.stem_norm else x

    def _transition(self, x: Array, before: Part, after: Part) -> Array:
        """Returns the input of the next block: norm, ReLU, 1x1 convolution to half the channels, 2x2 mean."""
        name = f"features.transition{before.block}"
        x = self.conv(x.shape[-1] // 2, 1, name=f"{name}.conv")(relu(self.norm(name=f"{name}.norm")(x)))
        return avg_pool(x, 2) if after.stride > before.stride else x

    def _layers(self, channels: int, part: Part) -> list[nn.Module]:
        """Returns the layers of a part, whose input has `channels` channels."""
        layer, growth = rematerialised(DenseLayer, self.remat), self.table.growth
        return [
            layer(
                growth, self.conv, self.norm, part.dilation,
                bottleneck=self.early_bottlenecks or channels + i * growth > 4 * growth,
                dropout=self.layer_dropout, train=self.train, name=f"features.denseblock{part.block}.denselayer{j}",
            )
            for i, j in enumerate(part.layers)
        ]  # fmt: skip

    def _stage(self, part: Part) -> str:
        """Returns the key of a part's map."""
        first_half = part.layers.stop <= self.table.blocks[part.block - 1]
        return f"denseblock{part.block}{'a' if first_half else ''}"

    @property
    def table(self) -> Table:
        """Returns the layer table. Raises UserError for a depth that does not exist, or an impossible table."""
        if self.depth not in TABLES:
            raise UserError(f"DenseNet depth {self.depth} does not exist; choose one of {', '.join(map(str, TABLES))}.")
        table = TABLES[self.depth]
        growth, blocks = self.growth or table.growth, self.blocks or table.blocks
        if len(blocks) != 4 or min(blocks) < 1:
            raise UserError(f"blocks={blocks} of a DenseNet must be four numbers of layers, each 1 or more.")
        return Table(growth, 2 * growth, tuple(blocks))

    def parts(self) -> list[Part]:
        """Returns the parts that run one after the other: the blocks, in two halves if they are split.

        Raises UserError for an output stride or splits that are not possible.
        """
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"output_stride={self.output_stride} is not possible with a DenseNet; choose 8, 16 or 32.")
        wrong = [block for block in self.splits if block not in (1, 2, 3, 4) or self.table.blocks[block - 1] < 2]
        if wrong or (self.splits and self.output_stride != 32):
            raise UserError(
                f"splits={self.splits} are not possible: they are numbers of blocks, 1 to 4, of two layers or more, "
                "in a DenseNet with output_stride=32."
            )
        parts, halved = [], 1
        for block, (count, nominal) in enumerate(zip(self.table.blocks, (4, 8, 16, 32)), start=1):
            stride = min(nominal, self.output_stride) * self.stem_stride // 2 * halved
            dilation = max(1, nominal // self.output_stride)
            if block in self.splits:
                parts.append(Part(block, range(1, count // 2 + 1), stride, dilation))
                halved *= 2
                parts.append(Part(block, range(count // 2 + 1, count + 1), 2 * stride, dilation))
            else:
                parts.append(Part(block, range(1, count + 1), stride, dilation))
        return parts
