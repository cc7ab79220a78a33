"""Blocks that several networks share; the names of their layers are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import norm_of_means, relu
from segjax.ops import adaptive_avg_pool, resize
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]


class ConvNormReLU(nn.Module):
    """Convolution, batch norm, ReLU.

    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    """

    features: int
    conv: ModuleDef
    norm: ModuleDef
    kernel_size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, features)."""
        x = self.conv(self.features, self.kernel_size, self.stride, name="conv")(x)
        return relu(self.norm(name="bn")(x))


class SeparableConv(nn.Module):
    """Depthwise 3x3 convolution, batch norm, ReLU, pointwise convolution, batch norm, ReLU.

    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    names: names of the four layers: convolution and norm, twice.
    """

    features: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    names: tuple[str, str, str, str] = ("conv.0", "conv.1", "conv.3", "conv.4")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, features)."""
        c, (first, first_norm, second, second_norm) = x.shape[-1], self.names
        x = self.conv(c, 3, self.stride, dilation=self.dilation, groups=c, name=first)(x)
        x = relu(self.norm(name=first_norm)(x))
        x = self.conv(self.features, 1, name=second)(x)
        return relu(self.norm(name=second_norm)(x))


class FactoredConv(nn.Module):
    """Depthwise convolution and pointwise convolution with nothing between.

    With many channels a 3x3 one has 1/9 of the multiply-adds of a dense convolution.

    conv: constructor of the layers, see `layers.conv_and_norm`.
    """

    features: int
    conv: ModuleDef
    kernel_size: int = 3
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, features)."""
        c = x.shape[-1]
        x = self.conv(c, self.kernel_size, dilation=self.dilation, groups=c, name="depthwise")(x)
        return self.conv(self.features, 1, name="pointwise")(x)


class Unit(nn.Module):
    """Unit of the ladders (SwiftNet, Ladder DenseNet): batch norm, ReLU, convolution, in that order.

    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    """

    features: int
    conv: ModuleDef
    norm: ModuleDef
    kernel_size: int = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, features)."""
        x = relu(self.norm(name="norm")(x))
        return self.conv(self.features, kernel_size=self.kernel_size, name="conv")(x)


class PyramidPooling(nn.Module):
    """Pyramid pooling of the ladders: x projected, its means over grids, projected, upsampled and fused with it.

    features: channels of the result.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    rows: of each grid. The columns follow from the aspect ratio, so that cells are square.
    square: as many columns as rows instead.
    width: channels that x is projected to; 0 for no projection.
    level_width: channels that each level is projected to.

    Source: spatial pyramid pooling of Kreso et al., "Efficient Ladder-style DenseNets", section 3.2.
    """

    features: int
    conv: ModuleDef
    norm: ModuleDef
    rows: tuple[int, ...]
    width: int
    level_width: int
    square: bool = False

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, dict[int, Array]]:
        """Maps x (b, h, w, c) to the result (b, h, w, features) and, by rows, the projected means of each level.

        The means have the size of their grid, (b, rows, columns, level_width).
        """
        unit = partial(Unit, conv=self.conv, norm=self.norm, kernel_size=1)
        if self.width:
            x = unit(self.width, name="spp_bn")(x)
        h, w = x.shape[1:3]
        grids = [(rows, rows if self.square else max(1, round(rows * w / h))) for rows in self.rows]
        levels = {}

        def project(i: int, means: Array) -> Array:
            norm = norm_of_means(self.norm, means.shape[0] * means.shape[1] * means.shape[2])
            levels[self.rows[i]] = y = unit(self.level_width, norm=norm, name=f"spp{i}")(means)
            return y

        maps = pyramid(x, grids, project, align_corners=False)
        return unit(self.features, name="spp_fuse")(jnp.concatenate(maps, -1)), levels


class TransitionUp(nn.Module):
    """Transition up: a coarse map enlarged, plus a finer map projected to its channels, blended.

    features: channels of the result.
    width: channels of the 1x1 convolution before the 3x3, which is left out if the sum has no more.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    residual: add the enlarged map to the result, projected if the channels differ.
    separable: build the 3x3 convolution as depthwise and pointwise convolution, without the 1x1 before it.

    Source: transition-up of Kreso et al., "Efficient Ladder-style DenseNets", section 3.3; the shortcut is in the
    released code only.
    """

    features: int
    width: int
    conv: ModuleDef
    norm: ModuleDef
    residual: bool = False
    separable: bool = False

    @nn.compact
    def __call__(self, x: Array, skip: Array) -> Array:
        """Maps x (b, h', w', c) and the finer map skip (b, h, w, c') to (b, h, w, features)."""
        unit = partial(Unit, conv=self.conv, norm=self.norm, kernel_size=1)
        skip = unit(x.shape[-1], name="bottleneck")(skip)
        up = resize(x, skip.shape[1:3])
        y = skip + up
        if y.shape[-1] > self.width and not self.separable:
            y = unit(self.width, name="blend_bt")(y)
        conv3x3 = partial(FactoredConv, conv=self.conv) if self.separable else self.conv
        y = Unit(self.features, conv3x3, self.norm, name="blend_conv")(y)
        if not self.residual:
            return y
        return y + (up if up.shape[-1] == self.features else unit(self.features, name="skip_bt")(up))


def pyramid(
    x: Array,
    grids: Sequence[int | tuple[int, int]],
    project: Callable[[int, Array], Array],
    *,
    align_corners: bool = True,
) -> list[Array]:
    """Returns [x, level 0, level 1, ...]: for each grid, the means over its cells, projected and upsampled to x's size.

    x: (b, h, w, c).
    grids: of each level, the cells per side, or rows and columns.
    project: (index of the level, means (b, rows, columns, c)) -> (b, rows, columns, d).
    align_corners: of the upsampling.

    Call it in the compact method of the module that owns the layers of `project`.
    Source: Zhao et al., CVPR 2017 (PSPNet), section 3.2.
    """
    levels = [x]
    for i, grid in enumerate(grids):
        y = project(i, adaptive_avg_pool(x, grid))
        levels.append(resize(y, x.shape[1:3], align_corners=align_corners))
    return levels
