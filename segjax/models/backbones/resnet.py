"""ResNet-18/34/50/101 (He et al., CVPR 2016) and variants, with the torchvision layer table and tensor names.

Variants: ResNeXt (Xie et al., CVPR 2017; grouped 3x3 convolutions), SE-ResNeXt (Hu et al., CVPR 2018; Cadene's names)
and the deep stem of PyTorch-Encoding and hszhao/semseg. DeepLabV2's ResNet is in resnet_caffe.py.

The 3x3 convolution of a bottleneck has the stride. A stage whose stride would exceed `output_stride` keeps its
resolution and dilates its 3x3 convolutions instead, by one of two rules; see `stage_plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax

from segjax.errors import UserError
from segjax.models.layers import relu
from segjax.models.remat import Remat, rematerialised
from segjax.ops import max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]
DilationRule = Literal["torchvision", "all_blocks"]

Plan = list[tuple[int, int, tuple[int, ...]]]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}

STEM = ("conv1", "bn1")
DEEP_STEM = ("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1")  # PyTorch-Encoding, Tramac
MMSEG_STEM = ("stem.0", "stem.1", "stem.3", "stem.4", "stem.6", "stem.7")  # of half the width, see ResNet
VPLR_STEM = ("layer0.0", "layer0.1")
SEMSEG_STEM = ("layer0.0", "layer0.1", "layer0.3", "layer0.4", "layer0.6", "layer0.7")


def stage_plan(depth: int, output_stride: int, rule: DilationRule, multi_grid: tuple[int, ...] = ()) -> Plan:
    """Returns, for each of the four stages: stride to the image, stride of the first block, dilation of each block.

    rule: "torchvision" (`replace_stride_with_dilation`; PyTorch-Encoding, GluonCV): the first block of a stage keeps
        the dilation of the previous stage. "all_blocks" (VPLR, hszhao/semseg, DeepLabV2): all blocks of the stage have
        the new dilation.
    multi_grid: dilations of the blocks of the last stage; they override the rule. () for none.
    Raises UserError for a depth or an output stride that does not exist, and for a multi_grid that does not fit.
    """
    if depth not in BLOCKS:
        raise UserError(f"ResNet depth {depth} does not exist; choose one of {', '.join(map(str, BLOCKS))}.")
    if output_stride not in (8, 16, 32):
        raise UserError(f"output_stride={output_stride} is not possible with a ResNet; choose 8, 16 or 32.")
    plan, stride, dilation = [], 4, 1
    for i, count in enumerate(BLOCKS[depth]):
        before, step = dilation, 1 if i == 0 else 2
        if stride * step > output_stride:
            dilation, step = dilation * step, 1
        stride *= step
        first = before if rule == "torchvision" else dilation
        plan.append((stride, step, (first,) + (dilation,) * (count - 1)))
    if multi_grid:
        if len(multi_grid) != BLOCKS[depth][-1] or min(multi_grid) < 1:
            raise UserError(f"multi_grid={multi_grid} must give {BLOCKS[depth][-1]} dilations of 1 or more.")
        plan[-1] = (*plan[-1][:2], tuple(multi_grid))
    return plan


class BasicBlock(nn.Module):
    """Basic block (ResNet-18 and -34): two 3x3 convolutions.

    stride, dilation: of the first convolution.
    stage_dilation: of the second convolution, the same in all blocks of a stage.
    """

    width: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    stage_dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, width)."""
        y = self.conv(self.width, 3, self.stride, dilation=self.dilation, name="conv1")(x)
        y = relu(self.norm(name="bn1")(y))
        y = self.conv(self.width, 3, dilation=self.stage_dilation, name="conv2")(y)
        y = self.norm(name="bn2")(y)
        return relu(y + _shortcut(self, x, y))


class SqueezeExcite(nn.Module):
    """Squeeze and excitation: each channel times a factor in (0, 1) that two layers compute from the image means."""

    conv: ModuleDef
    reduction: int = 16

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, c)."""
        c = x.shape[-1]
        y = relu(self.conv(c // self.reduction, 1, use_bias=True, name="fc1")(x.mean((1, 2), keepdims=True)))
        return x * jax.nn.sigmoid(self.conv(c, 1, use_bias=True, name="fc2")(y))


class Bottleneck(nn.Module):
    """Bottleneck (ResNet-50 and deeper): 1x1, 3x3 (stride and dilation), 1x1 convolution to four times the width.

    groups, group_width: of the 3x3 convolution, whose width is groups * floor(width * group_width / 64).
    squeeze_excite: apply `SqueezeExcite` before the addition.
    """

    width: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    stage_dilation: int = 1  # argument of BasicBlock, unused here: there is no second 3x3 convolution
    groups: int = 1
    group_width: int = 64
    squeeze_excite: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, 4 width)."""
        inner = self.width * self.group_width // 64 * self.groups
        y = relu(self.norm(name="bn1")(self.conv(inner, 1, name="conv1")(x)))
        y = self.conv(inner, 3, self.stride, dilation=self.dilation, groups=self.groups, name="conv2")(y)
        y = relu(self.norm(name="bn2")(y))
        y = self.norm(name="bn3")(self.conv(4 * self.width, 1, name="conv3")(y))
        if self.squeeze_excite:
            y = SqueezeExcite(self.conv, name="se_module")(y)
        return relu(y + _shortcut(self, x, y))


def _shortcut(block: BasicBlock | Bottleneck, x: Array, y: Array) -> Array:
    """Returns x, projected if its stride or width differs from y's. Call it in the block's compact method."""
    if block.stride == 1 and x.shape[-1] == y.shape[-1]:
        return x
    x = block.conv(y.shape[-1], 1, block.stride, name="downsample.0")(x)
    return block.norm(name="downsample.1")(x)


class ResNet(nn.Module):
    """ResNet trunk: images (b, h, w, 3) -> {stride: deepest map of that stride}, finest first.

    depth: 18, 34, 50 or 101.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 8, 16 or 32.
    dilation_rule, multi_grid: see `stage_plan`.
    stem_names: names of convolution and norm in turn. Two names build the 7x7 stem of 64 channels; six build the deep
        stem, three 3x3 convolutions.
    groups, group_width, squeeze_excite: of the bottlenecks; groups 32 and group_width 4 build a ResNeXt 32x4d.
    pool_padding, pool_ceil: of the 3x3 stride-2 max pooling (Cadene's SE-ResNeXt trunks: 0 and True).
    deep_stem_width: width of the first two convolutions of the deep stem; the third has twice as many channels.
    remat: segments that are computed again in the backward pass, see models/remat.py.
    """

    depth: int
    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 32
    dilation_rule: DilationRule = "torchvision"
    stem_names: tuple[str, ...] = STEM
    groups: int = 1
    group_width: int = 64
    squeeze_excite: bool = False
    pool_padding: int = 1
    pool_ceil: bool = False
    deep_stem_width: int = 64
    multi_grid: tuple[int, ...] = ()
    remat: Remat = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {4: (b, h/4, w/4, c), ...} down to output_stride, of images (b, h, w, 3)."""
        stages = self.stages(images)
        return {stride: stages[f"layer{i}"] for i, (stride, _, _) in enumerate(self._plan(), start=1)}

    @nn.compact
    def stages(self, images: Array, between: Callable[[str, Array], Array] | None = None) -> dict[str, Array]:
        """Returns {"layer0": map after the pooling, "layer1", ..., "layer4"} of images (b, h, w, 3).

        between: (name of a stage, its map) -> the input of the next stage; None to pass the map on.
        Raises UserError for a depth, an output stride or other options that are not possible.
        """
        plan, block = self._plan(), self._block()
        x = rematerialised(_stem, self.remat, "stem")(self, images)
        maps = {"layer0": x}
        for i, (_, step, dilations) in enumerate(plan, start=1):
            for j, dilation in enumerate(dilations):
                x = block(
                    64 * 2 ** (i - 1), self.conv, self.norm, step if j == 0 else 1, dilation, dilations[-1],
                    name=f"layer{i}.{j}",
                )(x)  # fmt: skip
            maps[f"layer{i}"] = x
            x = x if between is None else between(f"layer{i}", x)
        return maps

    def _plan(self) -> Plan:
        return stage_plan(self.depth, self.output_stride, self.dilation_rule, self.multi_grid)

    def _block(self) -> ModuleDef:
        kind = BasicBlock if self.depth < 50 else Bottleneck
        kin = dict(groups=self.groups, group_width=self.group_width, squeeze_excite=self.squeeze_excite)
        if kind is BasicBlock and (self.groups != 1 or self.squeeze_excite):
            raise UserError(f"ResNet-{self.depth} has no bottlenecks: groups and squeeze_excite need depth 50 or 101.")
        block = rematerialised(kind, self.remat)
        return block if kind is BasicBlock else partial(block, **kin)


def _stem(net: ResNet, x: Array) -> Array:
    """Returns the map after the pooling, of images x (b, h, w, 3)."""
    deep, first = len(net.stem_names) == 6, net.deep_stem_width
    for i, width in enumerate((first, first, 2 * first) if deep else (64,)):
        conv, norm = net.stem_names[2 * i : 2 * i + 2]
        x = net.conv(width, 3 if deep else 7, 2 if i == 0 else 1, name=conv)(x)
        x = relu(net.norm(name=norm)(x))
    return max_pool(x, 3, 2, net.pool_padding, ceil_mode=net.pool_ceil)


resnext50_32x4d = partial(ResNet, 50, groups=32, group_width=4)
# Cadene's SE-ResNeXt, whose ImageNet weights VPLR starts from
_se_resnext = partial(
    ResNet, groups=32, group_width=4, squeeze_excite=True, stem_names=("layer0.conv1", "layer0.bn1"), pool_padding=0,
    pool_ceil=True,
)  # fmt: skip
se_resnext50_32x4d = partial(_se_resnext, 50)
se_resnext101_32x4d = partial(_se_resnext, 101)
