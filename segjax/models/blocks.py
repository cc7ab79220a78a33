"""Blocks that several networks are made of; the names of their layers are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn

from segjax.models.layers import relu
from segjax.ops import adaptive_avg_pool, resize
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]


class ConvNormReLU(nn.Module):
    """Convolution, batch norm, ReLU."""

    features: int
    conv: ModuleDef
    norm: ModuleDef
    kernel_size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, features)."""
        x = self.conv(self.features, self.kernel_size, self.stride, name="conv")(x)
        return relu(self.norm(name="bn")(x))


class SeparableConv(nn.Module):
    """Depthwise 3x3, BN, ReLU, pointwise, BN, ReLU.

    names: of the four layers.
    """

    features: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    names: tuple[str, str, str, str] = ("conv.0", "conv.1", "conv.3", "conv.4")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, features)."""
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
    """[x, and for each grid the means of x over its cells, projected and upsampled to the size of x].

    x: (b, h, w, c). grids: cells per side, or rows and columns. project: (index of the grid, means) -> (b, .., .., d).
    Called in the compact method of a module, whose parts `project` uses. Source: Zhao et al., CVPR 2017 (PSPNet).
    """
    levels = [x]
    for i, grid in enumerate(grids):
        y = project(i, adaptive_avg_pool(x, grid))
        levels.append(resize(y, x.shape[1:3], align_corners=align_corners))
    return levels
