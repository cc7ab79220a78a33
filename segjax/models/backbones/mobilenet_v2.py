"""MobileNetV2 (Sandler et al., CVPR 2018) with the torchvision layer table and tensor names.

The 1280-channel convolution before the classifier (features.18) is not included. A stage whose stride would exceed
`output_stride` keeps its resolution and dilates its depthwise convolutions by torchvision's rule: its first block
keeps the dilation of the previous stage.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn

from segjax.errors import UserError
from segjax.models.backbones.strides import LAYERS
from segjax.models.layers import relu6
from segjax.models.remat import Remat, rematerialised
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]

# expansion, channels, blocks, stride
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Inverted residual: expand (if expansion > 1), depthwise 3x3, project; ReLU6; a shortcut if the shapes agree."""

    features: int
    conv: ModuleDef
    norm: ModuleDef
    expansion: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, features)."""
        y, c, i = x, x.shape[-1] * self.expansion, 0
        if self.expansion > 1:
            y = relu6(self.norm(name="conv.0.1")(self.conv(c, 1, name="conv.0.0")(y)))
            i = 1
        y = self.conv(c, 3, self.stride, dilation=self.dilation, groups=c, name=f"conv.{i}.0")(y)
        y = relu6(self.norm(name=f"conv.{i}.1")(y))
        y = self.norm(name=f"conv.{i + 2}")(self.conv(self.features, 1, name=f"conv.{i + 1}")(y))
        return x + y if self.stride == 1 and x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """MobileNetV2 trunk: images (b, h, w, 3) -> {stride: deepest map of that stride}, finest (stride 2) first.

    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 8, 16 or 32.
    remat: segments that are computed again in the backward pass, see models/remat.py.
    """

    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 32
    remat: Remat = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {2: (b, h/2, w/2, 16), 4: (b, h/4, w/4, 24), ...} down to output_stride, of images (b, h, w, 3)."""
        stages = self.stages(images)
        return {min(stride, self.output_stride): stages[name] for stride, name in LAYERS.items()}

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """Returns the map of each stage, for images (b, h, w, 3), with the keys of `ResNet.stages`.

        "layer0", ..., "layer4" are the deepest maps of stride 2, ..., 32 in the network without dilation.
        Raises UserError for an output stride that is not possible.
        """
        if self.output_stride not in (8, 16, 32):
            raise UserError(
                f"output_stride={self.output_stride} is not possible with a MobileNetV2; choose 8, 16 or 32."
            )
        block = rematerialised(InvertedResidual, self.remat)
        x = rematerialised(_stem, self.remat, "stem")(self, images)
        maps, index, stride, undilated, dilation = {}, 1, 2, 2, 1
        for expansion, features, count, step in STAGES:
            first, undilated = dilation, undilated * step
            if stride * step > self.output_stride:
                dilation, step = dilation * step, 1
            stride *= step
            for i in range(count):
                x = block(
                    features, self.conv, self.norm, expansion, step if i == 0 else 1, first if i == 0 else dilation,
                    name=f"features.{index}",
                )(x)  # fmt: skip
                index += 1
            maps[LAYERS[undilated]] = x
        return maps


def _stem(net: MobileNetV2, images: Array) -> Array:
    return relu6(net.norm(name="features.0.1")(net.conv(32, 3, 2, name="features.0.0")(images)))
