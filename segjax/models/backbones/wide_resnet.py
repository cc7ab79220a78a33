"""WideResNet-38 A2 (Wu et al., 2016; 7 modules of pre-activation blocks) with the layer table and names of VPLR.

All activations are ReLU, although the ImageNet weights come from a network with leaky ReLU. The last batch norm and the
classifier of that network are not included: the last map is the sum of mod7, without norm and ReLU.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn

from segjax.errors import UserError
from segjax.models.layers import Dropout, relu
from segjax.models.remat import Remat, rematerialised
from segjax.ops import max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]

# of mod2 ... mod7: blocks, widths of the convolutions, stride of the first block unless dilation replaces it
MODULES = (
    (3, (128, 128), 1),
    (3, (256, 256), 1),
    (6, (512, 512), 2),
    (3, (512, 1024), 2),
    (1, (512, 1024, 2048), 2),
    (1, (1024, 2048, 4096), 1),
)


class PreActivationBlock(nn.Module):
    """Pre-activation block: norm and ReLU before each convolution.

    widths: channels of the convolutions: two widths for two 3x3, three for 1x1, 3x3, 1x1.
    stride: stride of the first convolution.
    dilation: dilation of all 3x3 convolutions.
    dropout: rate of the channel dropout before the last convolution.
    train: drop channels.
    """

    widths: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, widths[-1])."""
        kernels = (3, 3) if len(self.widths) == 2 else (1, 3, 1)
        y = relu(self.norm(name="bn1.0")(x))
        if self.stride != 1 or x.shape[-1] != self.widths[-1]:
            x = self.conv(self.widths[-1], 1, self.stride, name="proj_conv")(y)
        for i, (width, kernel) in enumerate(zip(self.widths, kernels), start=1):
            if i > 1:
                y = relu(self.norm(name=f"convs.bn{i}.0")(y))
            if i == len(self.widths) and self.dropout:
                y = Dropout(self.dropout, train=self.train, channels=True, name="convs.dropout")(y)
            stride = self.stride if i == 1 else 1
            y = self.conv(width, kernel, stride, dilation=self.dilation, name=f"convs.conv{i}")(y)
        return x + y


class WideResNet38(nn.Module):
    """WideResNet-38 trunk: images (b, h, w, 3) -> {2: mod2, 4: mod3, ..., output_stride: mod7}, finest first.

    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    output_stride: 8 (A2 as published), 16 or 32. A module that would exceed it is dilated, and so are all later ones.
    dropout: rates of the channel dropout in mod6 and mod7, (0.3, 0.5) as published, or () for none.
    train: drop channels.
    remat: segments that are computed again in the backward pass, see models/remat.py.
    """

    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 8
    dropout: tuple[float, ...] = ()
    train: bool = False
    remat: Remat = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {2: (b, h/2, w/2, 128), 4: (b, h/4, w/4, 256), ...} down to output_stride, of images (b, h, w, 3)."""
        stages = self.stages(images)
        return {2: stages["mod2"]} | {stride: stages[name] for name, stride, _, _ in self._plan()[1:]}

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """Returns {"mod1", ..., "mod7": the map of each module} of images (b, h, w, 3).

        Raises UserError for an output stride or dropout rates that are not possible.
        """
        if len(self.dropout) not in (0, 2):
            raise UserError(f"dropout={self.dropout} of WideResNet38 takes two rates, of mod6 and mod7, or none.")
        rates = dict(zip(("mod6", "mod7"), self.dropout))
        block = rematerialised(PreActivationBlock, self.remat)
        mod1, x = rematerialised(_stem, self.remat, "stem")(self, images)
        maps = {"mod1": mod1}
        for (name, _, step, dilation), (blocks, widths, _) in zip(self._plan(), MODULES):
            if name == "mod3":
                x = max_pool(x, 3, 2, 1)
            for j in range(1, blocks + 1):
                x = block(
                    widths, self.conv, self.norm, step if j == 1 else 1, dilation, rates.get(name, 0.0), self.train,
                    name=f"{name}.block{j}",
                )(x)  # fmt: skip
            maps[name] = x
        return maps

    def _plan(self) -> list[tuple[str, int, int, int]]:
        """Returns for mod2 ... mod7: name, stride to the image, stride of the first block, dilation of all blocks."""
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"output_stride={self.output_stride} is not possible with WideResNet38; use 8, 16 or 32.")
        plan, stride, dilation = [], 1, 1
        for i, (_, _, step) in enumerate(MODULES, start=2):
            stride *= 2 if i <= 3 else 1  # the poolings
            if stride * step > self.output_stride:
                dilation, step = dilation * step, 1
            stride *= step
            plan.append((f"mod{i}", stride, step, dilation))
        return plan


def _stem(net: WideResNet38, images: Array) -> tuple[Array, Array]:
    """Returns the maps before and after the first pooling, of images (b, h, w, 3)."""
    x = net.conv(64, 3, name="mod1.conv1")(images)
    return x, max_pool(x, 3, 2, 1)
