"""HRNetV2 (Wang et al., TPAMI 2020): four parallel resolutions, fused with each other after every module.

Layer table and tensor names of HRNet/HRNet-Semantic-Segmentation, branch HRNet-OCR.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from segjax.errors import UserError
from segjax.models.backbones.resnet import BasicBlock, Bottleneck
from segjax.models.layers import relu
from segjax.models.remat import Remat, rematerialised
from segjax.ops import resize
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]
WIDTHS = (18, 32, 48)
MODULES = {2: 1, 3: 4, 4: 3}  # stage -> number of modules; stage n has n branches
BLOCKS = 4  # residual blocks per branch and module


class HRNet(nn.Module):
    """HRNet trunk: images (b, h, w, 3) -> {stride: map}; strides 4, 8, 16, 32 have 1, 2, 4, 8 times width channels.

    width: 18, 32 or 48.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    align_corners: of the upsampling between the branches; True for the OCR weights, False for the ImageNet weights.
    remat: segments that are computed again in the backward pass, of block, stem and up, the exchange between branches.
    """

    width: int
    conv: ModuleDef
    norm: ModuleDef
    align_corners: bool = True
    remat: Remat = False

    def __call__(self, images: Array) -> dict[int, Array]:
        """Returns {4: (b, h/4, w/4, width), 8: ..., 16: ..., 32: ...} of images (b, h, w, 3)."""
        stages = self.stages(images)
        return {stride: stages[f"stage4.{i}"] for i, stride in enumerate((4, 8, 16, 32))}

    @nn.compact
    def stages(self, images: Array) -> dict[str, Array]:
        """Returns maps of all stages, for images (b, h, w, 3).

        "layer1"; "stage2_0", "stage3_3", "stage4_b0", "stage4_b3": branches before the last fusion of their stage;
        "stage4.0" to "stage4.3": the four outputs.
        Raises UserError for a width that does not exist.
        """
        if self.width not in WIDTHS:
            raise UserError(f"HRNet width {self.width} does not exist; choose one of {', '.join(map(str, WIDTHS))}.")
        basic, bottleneck = (rematerialised(block, self.remat) for block in (BasicBlock, Bottleneck))
        x = rematerialised(_stem, self.remat, "stem")(self, images)
        for i in range(4):
            x = bottleneck(64, self.conv, self.norm, name=f"layer1.{i}")(x)
        maps = {"layer1": x}
        branches = [x]
        for stage, modules in MODULES.items():
            branches = rematerialised(partial(_transition, stage=stage), self.remat, "up")(self, branches)
            for m in range(modules):
                name = f"stage{stage}.{m}"
                for b, channels in enumerate(self._channels(stage)):
                    for i in range(BLOCKS):
                        block = basic(channels, self.conv, self.norm, name=f"{name}.branches.{b}.{i}")
                        branches[b] = block(branches[b])
                before = branches
                branches = rematerialised(partial(_fuse, name=name), self.remat, "up")(self, branches)
            if stage == 4:
                maps |= {"stage4_b0": before[0], "stage4_b3": before[3]}
            else:
                maps |= {"stage2_0": before[0]} if stage == 2 else {"stage3_3": before[2]}
        return maps | {f"stage4.{i}": y for i, y in enumerate(branches)}

    def _channels(self, stage: int) -> list[int]:
        return [self.width * 2**i for i in range(stage)]


def _stem(net: HRNet, x: Array) -> Array:
    """Returns the map of stride 4, of images x (b, h, w, 3)."""
    for i in (1, 2):
        x = relu(net.norm(name=f"bn{i}")(net.conv(64, 3, 2, name=f"conv{i}")(x)))
    return x


def _conv(net: HRNet, x: Array, channels: int, kernel: int, stride: int, name: str) -> Array:
    """Returns x after the convolution NAME.0 and the norm NAME.1."""
    x = net.conv(channels, kernel, stride, name=f"{name}.0")(x)
    return net.norm(name=f"{name}.1")(x)


def _transition(net: HRNet, branches: list[Array], stage: int) -> list[Array]:
    """Returns the branches and a further one, computed from the coarsest at half its resolution.

    Before stage 2, a convolution also brings branch 0 to the width of the network.
    """
    channels, name = net._channels(stage), f"transition{stage - 1}"
    coarser = relu(_conv(net, branches[-1], channels[-1], 3, 2, f"{name}.{stage - 1}.0"))
    if stage == 2:
        branches = [relu(_conv(net, branches[0], channels[0], 3, 1, f"{name}.0"))]
    return [*branches, coarser]


def _fuse(net: HRNet, branches: list[Array], name: str) -> list[Array]:
    """Returns for each branch the ReLU of the sum of all branches at its resolution and width."""
    return [_fused(net, branches, i, name) for i in range(len(branches))]


def _fused(net: HRNet, branches: list[Array], i: int, name: str) -> Array:
    """Returns the ReLU of the sum of all branches at the resolution and width of branch i."""
    total = None
    for j, x in enumerate(branches):
        prefix = f"{name}.fuse_layers.{i}.{j}"
        if j > i:
            x = _conv(net, x, branches[i].shape[-1], 1, 1, prefix)
            x = resize(x, branches[i].shape[1:3], align_corners=net.align_corners)
        for k in range(i - j):
            last = k == i - j - 1
            x = _conv(net, x, branches[i if last else j].shape[-1], 3, 2, f"{prefix}.{k}")
            x = x if last else relu(x)
        total = x if total is None else total + x
    return relu(total)
