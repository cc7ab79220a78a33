"""ResNet-18/34/50/101 (He et al., CVPR 2016) with the torchvision layer table and tensor names.

The stride of a bottleneck sits on its 3x3 convolution. A stage whose stride would exceed `output_stride` keeps its
resolution and dilates its 3x3 convolutions instead; two rules for how are in use, see `ResNet.dilation_rule`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import flax.linen as nn

from segjax.errors import UserError
from segjax.models.layers import relu
from segjax.ops import max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]
DilationRule = Literal["torchvision", "all_blocks"]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and -34); the second one has the dilation of the stage in every block."""

    width: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    stage_dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, width)."""
        y = self.conv(self.width, 3, self.stride, dilation=self.dilation, name="conv1")(x)
        y = relu(self.norm(name="bn1")(y))
        y = self.conv(self.width, 3, dilation=self.stage_dilation, name="conv2")(y)
        y = self.norm(name="bn2")(y)
        return relu(y + _shortcut(self, x, y))


class Bottleneck(nn.Module):
    """1x1, 3x3 (stride and dilation), 1x1 to four times the width (ResNet-50 and deeper)."""

    width: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    stage_dilation: int = 1  # as BasicBlock; nothing follows the strided convolution here

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, 4 width)."""
        y = relu(self.norm(name="bn1")(self.conv(self.width, 1, name="conv1")(x)))
        y = self.conv(self.width, 3, self.stride, dilation=self.dilation, name="conv2")(y)
        y = relu(self.norm(name="bn2")(y))
        y = self.norm(name="bn3")(self.conv(4 * self.width, 1, name="conv3")(y))
        return relu(y + _shortcut(self, x, y))


def _shortcut(block: BasicBlock | Bottleneck, x: Array, y: Array) -> Array:
    """x, projected where stride or width differ from y's. Called in the block's compact method."""
    if block.stride == 1 and x.shape[-1] == y.shape[-1]:
        return x
    x = block.conv(y.shape[-1], 1, block.stride, name="downsample.0")(x)
    return block.norm(name="downsample.1")(x)


class ResNet(nn.Module):
    """Trunk. Call: images (b, h, w, 3) -> {stride: deepest map of that stride}, finest first.

    depth: 18, 34, 50 or 101.
    conv, norm: constructors of the layers, with dtype, train flag, momentum and eps bound (see models/layers.py).
    output_stride: 8, 16 or 32.
    dilation_rule: "torchvision" (`replace_stride_with_dilation`; GluonCV): the first block of a stage keeps the
        dilation of the stage before; "all_blocks" (VPLR, hszhao/semseg): every block of the stage has the new dilation.
    stem_names: of the first convolution and norm; the VPLR networks call them "layer0.0" and "layer0.1".
    pool_padding, pool_ceil: of the 3x3 stride-2 max pooling (VPLR's SE-ResNeXt trunks: 0 and True).
    remat: recompute each block in the backward pass.
    """

    depth: int
    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 32
    dilation_rule: DilationRule = "torchvision"
    stem_names: tuple[str, str] = ("conv1", "bn1")
    pool_padding: int = 1
    pool_ceil: bool = False
    remat: bool = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """images (b, h, w, 3) -> {4: (b, h/4, w/4, c), ...} down to output_stride."""
        stages = self.stages(images)
        return {stride: stages[f"layer{i}"] for i, (stride, _, _) in enumerate(self._plan(), start=1)}

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """images (b, h, w, 3) -> {"layer0": after the pooling, "layer1", ..., "layer4"}."""
        block = BasicBlock if self.depth < 50 else Bottleneck
        block = nn.remat(block) if self.remat else block
        x = self.conv(64, 7, 2, name=self.stem_names[0])(images)
        x = relu(self.norm(name=self.stem_names[1])(x))
        x = max_pool(x, 3, 2, self.pool_padding, ceil_mode=self.pool_ceil)
        maps = {"layer0": x}
        for i, (_, step, dilations) in enumerate(self._plan(), start=1):
            for j, dilation in enumerate(dilations):
                x = block(
                    64 * 2 ** (i - 1), self.conv, self.norm, step if j == 0 else 1, dilation, dilations[-1],
                    name=f"layer{i}.{j}",
                )(x)  # fmt: skip
            maps[f"layer{i}"] = x
        return maps

    def _plan(self) -> list[tuple[int, int, tuple[int, ...]]]:
        """Of each stage: its stride to the image, the stride of its first block, the dilation of each block."""
        if self.depth not in BLOCKS:
            raise UserError(f"ResNet depth {self.depth} does not exist; choose one of {', '.join(map(str, BLOCKS))}.")
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"output_stride={self.output_stride} is not possible with a ResNet; choose 8, 16 or 32.")
        plan, stride, dilation = [], 4, 1
        for i, count in enumerate(BLOCKS[self.depth]):
            before, step = dilation, 1 if i == 0 else 2
            if stride * step > self.output_stride:
                dilation, step = dilation * step, 1
            stride *= step
            first = before if self.dilation_rule == "torchvision" else dilation
            plan.append((stride, step, (first,) + (dilation,) * (count - 1)))
        return plan
