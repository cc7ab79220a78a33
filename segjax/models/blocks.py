"""Blocks that several networks share; the names of their layers are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn

from segjax.models.layers import relu
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
