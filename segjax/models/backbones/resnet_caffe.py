"""ResNet-101 of DeepLabV2 (Chen et al., PAMI 2018), with the tensor names of kazuto1011/deeplab-pytorch.

It differs from torchvision's in three places, so that the weights of one do not fit the other: the first 1x1
convolution of a bottleneck has the stride, the max pooling rounds up, and every block of a dilated stage is dilated.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn

from segjax.models.backbones.resnet import stage_plan
from segjax.models.layers import relu
from segjax.models.remat import Remat, rematerialised
from segjax.ops import max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]


class ConvNorm(nn.Module):
    """Convolution and batch norm, named "conv" and "bn"."""

    features: int
    kernel_size: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, features)."""
        x = self.conv(self.features, self.kernel_size, self.stride, dilation=self.dilation, name="conv")(x)
        return self.norm(name="bn")(x)


class Bottleneck(nn.Module):
    """Bottleneck: 1x1 (stride), 3x3 (dilation), 1x1 convolution to four times the width.

    project: project the input for the addition; set for the first block of a stage.
    """

    width: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    project: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, 4 width)."""
        layers = dict(conv=self.conv, norm=self.norm)
        y = relu(ConvNorm(self.width, 1, stride=self.stride, **layers, name="reduce")(x))
        y = relu(ConvNorm(self.width, 3, dilation=self.dilation, **layers, name="conv3x3")(y))
        y = ConvNorm(4 * self.width, 1, **layers, name="increase")(y)
        if self.project:
            x = ConvNorm(4 * self.width, 1, stride=self.stride, **layers, name="shortcut")(x)
        return relu(y + x)


class CaffeResNet(nn.Module):
    """ResNet trunk of DeepLabV2: images (b, h, w, 3) -> {stride: deepest map of that stride}, finest first.

    The arguments are those of `ResNet`; depth is 50 or 101.
    """

    depth: int
    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 8
    remat: Remat = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {4: (b, h/4, w/4, 256), ...} down to output_stride, of images (b, h, w, 3)."""
        stages = self.stages(images)
        plan = stage_plan(self.depth, self.output_stride, "all_blocks")
        return {stride: stages[f"layer{i}"] for i, (stride, _, _) in enumerate(plan, start=2)}

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """Returns {"layer1": map after the pooling, "layer2", ..., "layer5"} of images (b, h, w, 3).

        Raises UserError for a depth or an output stride that does not exist.
        """
        block = rematerialised(Bottleneck, self.remat)
        x = rematerialised(_stem, self.remat, "stem")(self, images)
        maps = {"layer1": x}
        for i, (_, step, dilations) in enumerate(stage_plan(self.depth, self.output_stride, "all_blocks"), start=2):
            for j, dilation in enumerate(dilations, start=1):
                first = j == 1
                x = block(
                    64 * 2 ** (i - 2), self.conv, self.norm, step if first else 1, dilation, first,
                    name=f"layer{i}.block{j}",
                )(x)  # fmt: skip
            maps[f"layer{i}"] = x
        return maps


def _stem(net: CaffeResNet, images: Array) -> Array:
    """Returns the map after the pooling, of images (b, h, w, 3)."""
    x = relu(ConvNorm(64, 7, net.conv, net.norm, 2, name="layer1.conv1")(images))
    return max_pool(x, 3, 2, 1, ceil_mode=True)
