"""DenseNet-121/161/169 (Huang et al., CVPR 2017) with the torchvision layer table and tensor names.

Every layer appends `growth` channels to its input. torchvision's last norm is an option; its classifier is not
included. A block whose stride would exceed `output_stride` dilates its 3x3 convolutions, and the transition before it
does not pool.

A layer reads the list of all earlier maps of its block and joins them itself. So a segment that is recomputed in the
backward pass keeps the narrow maps only, and no joined one. With the segment "layer", a block in training is one
operation on one buffer instead, see ops/dense_block.py.

Ladder DenseNets (Kreso et al., "Efficient Ladder-style DenseNets", section 3.1) halve the maps in the middle of a block
(`splits`), pool the stem without overlap (`stem_pool=2`) and, from random initial weights, leave out the norm of the
stem and the first 1x1 convolutions (`stem_norm`, `early_bottlenecks`; released code).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.layers import BatchNorm, Dropout, check_groups, measures, relu
from segjax.models.remat import Remat, rematerialised, segments
from segjax.ops import avg_pool, max_pool
from segjax.ops.dense_block import DenseLeaves, DenseNear, DenseSettings, dense_block
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
    remat: segments "cat1x1" and "conv3x3".
    """

    growth: int
    conv: ModuleDef
    norm: ModuleDef
    dilation: int = 1
    bottleneck: bool = True
    dropout: float = 0.0
    train: bool = False
    remat: Remat = False

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> Array:
        """Maps the earlier maps [(b, h, w, c), ...] to the new channels (b, h, w, growth)."""
        if self.bottleneck:
            maps = [rematerialised(_cat1x1, self.remat, "cat1x1")(self, maps)]
        x = rematerialised(_conv3x3, self.remat, "conv3x3")(self, maps)
        return Dropout(self.dropout, train=self.train, name="drop")(x) if self.dropout else x


def _cat1x1(layer: DenseLayer, maps: Sequence[Array]) -> Array:
    x = relu(layer.norm(name="norm1")(joined(maps)))
    return layer.conv(4 * layer.growth, 1, name="conv1")(x)


def _conv3x3(layer: DenseLayer, maps: Sequence[Array]) -> Array:
    x = relu(layer.norm(name="norm2")(joined(maps)))
    return layer.conv(layer.growth, 3, dilation=layer.dilation, name="conv2")(x)


class DenseVariables(DenseLayer):
    """Variables of a dense layer, under the same names, for a block that is one operation."""

    @nn.compact
    def __call__(self) -> tuple[DenseLeaves, Array | None, DenseNear, DenseSettings, list[BatchNorm]]:
        """Returns parameters, key of the dropout, running means, settings, and the norms, whose statistics follow."""
        numbers = (1, 2) if self.bottleneck else (2,)
        norms = [self.norm(name=f"norm{i}") for i in numbers]
        convs = [self.conv(self.growth, name=f"conv{i}") for i in numbers]
        pairs = [(norm.get_variable("params", "scale"), norm.get_variable("params", "bias")) for norm in norms]
        kernels = [conv.get_variable("params", "kernel") for conv in convs]
        leaves = DenseLeaves(*([] if self.bottleneck else [None, None]), *sum(zip(pairs, kernels), ()))
        key = Dropout(self.dropout, train=self.train, name="drop").draw() if self.dropout else None
        means = [norm.get_variable("batch_stats", "mean") for norm in norms]
        near, norm = DenseNear(*([] if self.bottleneck else [None]), *means), norms[0]
        settings = DenseSettings(norm.eps, norm.dtype, self.dilation, self.dropout, norm.axis_name, norm.groups)
        return leaves, key, near, settings, norms


def joined(maps: Sequence[Array]) -> Array:
    """Returns the maps [(b, h, w, c), ...] as one map, their channels in this order."""
    return maps[0] if len(maps) == 1 else jnp.concatenate(maps, -1)


def joined_block(x: Array, layers: Sequence[DenseLayer]) -> Array:
    """Returns x (b, h, w, c) with the channels that the layers append, in their order, (b, h, w, c + n growth)."""
    maps = [x]
    for layer in layers:
        maps.append(layer(list(maps)))
    return joined(maps)


def one_buffer_block(x: Array, layers: Sequence[DenseVariables]) -> Array:
    """Returns the result of `joined_block` in training, with the memory of `ops.dense_block`."""
    leaves, keys, near, settings, norms = zip(*(layer() for layer in layers))
    check_groups(settings[0].groups, x.shape[0])
    y, moments = dense_block(x, leaves, keys, near, settings[0])
    for own, found in zip(norms, moments, strict=True):
        for norm, moment in zip(own, (m for m in found if m is not None), strict=True):
            norm.record(*moment, x.size // x.shape[-1])
    return y


class DenseNet(nn.Module):
    """DenseNet trunk: images (b, h, w, 3) -> {stride: deepest map of that stride}, finest first.

    The maps are the outputs of the dense blocks, before any norm. With `norm5` the last one is the ReLU of that norm.

    depth: 121, 161 or 169.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 8, 16 or 32.
    norm5: with torchvision's norm after the last block.
    remat: segments that are computed again in the backward pass, of conv3x3, cat1x1, layer, block, stem and td. True
        stands for layer, which includes conv3x3, cat1x1 and block.
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
    remat: Remat = False
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
        remat, before = segments(self.remat, "layer"), None
        conv0, x = rematerialised(_stem, remat, "stem")(self, images)
        maps = {"conv0": conv0, "stem": x}
        for part in parts:
            if before and part.block > before.block:
                down = rematerialised(partial(_transition, before=before, after=part), remat, "td")
                x = maps[f"transition{before.block}"] = down(self, x)
            elif before:
                x = avg_pool(x, 2)
            x = maps[self._stage(part)] = self._block(x, part, remat)
            before = part
        if self.norm5:
            maps["norm5"] = self.norm(name="features.norm5")(x)
        return maps

    def _block(self, x: Array, part: Part, remat: frozenset[str]) -> Array:
        """Returns the map of a part, of its input x (b, h, w, c)."""
        in_training = self.norm(parent=None).train and not self.is_initializing()
        if "layer" in remat and in_training and not measures(self):
            return one_buffer_block(x, _layers(self, DenseVariables, x.shape[-1], part))
        block = partial(_joined_block, part=part, remat=remat)
        return rematerialised(block, remat - {"layer"}, "block")(self, x)

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


def _stem(net: DenseNet, images: Array) -> tuple[Array, Array]:
    """Returns the maps before and after the pooling, of images (b, h, w, 3)."""
    x = net.conv(net.table.stem, 7, net.stem_stride, name="features.conv0")(images)
    x = relu(net.norm(name="features.norm0")(x)) if net.stem_norm else x
    return x, max_pool(x, 3, 2, 1) if net.stem_pool == 3 else max_pool(x, 2)


def _transition(net: DenseNet, x: Array, before: Part, after: Part) -> Array:
    """Returns the input of the next block: norm, ReLU, 1x1 convolution to half the channels, 2x2 mean."""
    name = f"features.transition{before.block}"
    x = net.conv(x.shape[-1] // 2, 1, name=f"{name}.conv")(relu(net.norm(name=f"{name}.norm")(x)))
    return avg_pool(x, 2) if after.stride > before.stride else x


def _joined_block(net: DenseNet, x: Array, part: Part, remat: frozenset[str]) -> Array:
    return joined_block(x, _layers(net, DenseLayer, x.shape[-1], part, remat=remat))


def _layers(net: DenseNet, kind: type[DenseLayer], channels: int, part: Part, **options: Any) -> list[DenseLayer]:
    """Returns the layers of a part, whose input has `channels` channels."""
    growth = net.table.growth
    return [
        kind(
            growth, net.conv, net.norm, part.dilation,
            bottleneck=net.early_bottlenecks or channels + i * growth > 4 * growth,
            dropout=net.layer_dropout, train=net.train, name=f"features.denseblock{part.block}.denselayer{j}",
            **options,
        )
        for i, j in enumerate(part.layers)
    ]  # fmt: skip
