"""DPN-68, a dual path network (Chen et al., NeurIPS 2017), with the layer table and tensor names of its PyTorch port.

A block has two paths: its first channels are added to those of the input, as in a ResNet, and the rest is appended to
the input, as in a DenseNet. Units are batch norm, ReLU, convolution. The port's last norm and its classifier are not
included. Its ImageNet weights were trained with batch norm eps 1e-3 and with 32 groups in every 3x3 convolution.
Source: rwightman/pytorch-dpn-pretrained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.layers import relu
from segjax.models.remat import Remat, rematerialised
from segjax.ops import max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]
Paths = tuple[Array, Array]

BN_EPS = 1e-3
GROUPS = 32
STEM_WIDTH = 10
# of the four stages: blocks, width of the added path, channels that a block appends
STAGES = ((3, 64, 16), (4, 128, 32), (12, 256, 32), (3, 512, 64))


class PreActivation(nn.Module):
    """Batch norm, ReLU, convolution, with the port's names."""

    features: int
    conv: ModuleDef
    norm: ModuleDef
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, features)."""
        x = relu(self.norm(name="bn")(x))
        return self.conv(self.features, self.kernel_size, self.stride, groups=self.groups, name="conv")(x)


class DualPathBlock(nn.Module):
    """Dual path block: 1x1 to twice the width, grouped 3x3, 1x1; its output is added in part and appended in part.

    width: channels of the added path.
    growth: channels that the block appends.
    first: the first block of a stage, which projects its input.
    stride: of the 3x3 convolution and the projection.
    """

    width: int
    growth: int
    conv: ModuleDef
    norm: ModuleDef
    first: bool = False
    stride: int = 1

    @nn.compact
    def __call__(self, paths: Paths) -> Paths:
        """Maps the added path (b, h, w, c) and the appended path (b, h, w, c') to those after the block.

        The first block of a stage doubles the growth for its projection: the appended path then has 3 growth channels.
        """
        unit = partial(PreActivation, conv=self.conv, norm=self.norm)
        added, appended = paths
        x = jnp.concatenate(paths, -1)
        if self.first:
            projected = unit(self.width + 2 * self.growth, stride=self.stride, name=f"c1x1_w_s{self.stride}")(x)
            added, appended = projected[..., : self.width], projected[..., self.width :]
        inner = 2 * self.width
        x = unit(inner, name="c1x1_a")(x)
        x = unit(inner, kernel_size=3, stride=self.stride, groups=GROUPS, name="c3x3_b")(x)
        x = unit(self.width + self.growth, name="c1x1_c")(x)
        return added + x[..., : self.width], jnp.concatenate([appended, x[..., self.width :]], -1)


class DPN68(nn.Module):
    """DPN-68 trunk: images (b, h, w, 3) -> {stride: map of that stride}; strides 2, 4, 8, 16, 32, finest first.

    The map of stride 2 is the one before the stem's pooling; the others are both paths of a stage, joined.

    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 32; the trunk has no dilated form.
    bn_eps: term in the trunk's batch norms, independent of the decoder's: the weights were trained with it.
    remat: segments that are computed again in the backward pass, see models/remat.py.
    """

    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 32
    bn_eps: float = BN_EPS
    remat: Remat = False

    @nn.compact
    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {2: (b, h/2, w/2, 10), 4: .., 144), 8: .., 320), 16: .., 704), 32: .., 832)} of the images.

        Raises UserError for another output stride.
        """
        if self.output_stride != 32:
            raise UserError(f"output_stride={self.output_stride} is not possible with DPN-68, which has 32 only.")
        norm = partial(self.norm, eps=self.bn_eps)
        block = rematerialised(DualPathBlock, self.remat)
        stem, x = rematerialised(_stem, self.remat, "stem")(self, images)
        maps = {2: stem}
        paths = (x, x[..., :0])
        for i, (count, width, growth) in enumerate(STAGES):
            for j in range(1, count + 1):
                first = j == 1
                name = f"features.conv{i + 2}_{j}"
                paths = block(width, growth, self.conv, norm, first, 2 if first and i else 1, name=name)(paths)
            maps[4 * 2**i] = jnp.concatenate(paths, -1)
        return maps


def _stem(net: DPN68, images: Array) -> tuple[Array, Array]:
    """Returns the maps before and after the pooling, of images (b, h, w, 3)."""
    x = net.conv(STEM_WIDTH, 3, 2, name="features.conv1_1.conv")(images)
    x = relu(net.norm(eps=net.bn_eps, name="features.conv1_1.bn")(x))
    return x, max_pool(x, 3, 2, 1)
