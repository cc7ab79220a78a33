"""ResNet-18/34 for an image at several scales, with one set of convolutions (SwiftNet, Orsic et al., CVPR 2019).

Each scale has its own batch norms, except for those of the shortcuts: all scales share them and update them in turn.
Tensor names are torchvision's, with the scale after the norm: bn1.0, bn1.1, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn

from segjax.errors import UserError
from segjax.models.backbones.resnet import BLOCKS
from segjax.models.layers import relu
from segjax.models.remat import Remat, rematerialised
from segjax.ops import max_pool
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]


class PyramidBlock(nn.Module):
    """Basic block on maps of several scales, without the last ReLU."""

    width: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> list[Array]:
        """Maps each scale's x (b, h, w, c) to (b, h / stride, w / stride, width)."""
        conv1 = self.conv(self.width, 3, self.stride, name="conv1")
        conv2 = self.conv(self.width, 3, name="conv2")
        if self.stride > 1 or maps[0].shape[-1] != self.width:
            project = self.conv(self.width, 1, self.stride, name="downsample.0")
            norm = self.norm(name="downsample.1")
            shortcuts = [norm(project(x)) for x in maps]
        else:
            shortcuts = maps
        sums = []
        for scale, (x, shortcut) in enumerate(zip(maps, shortcuts)):
            y = relu(self.norm(name=f"bn1.{scale}")(conv1(x)))
            sums.append(self.norm(name=f"bn2.{scale}")(conv2(y)) + shortcut)
        return sums


class PyramidResNet(nn.Module):
    """ResNet trunk: images (b, h, w, 3) of each scale -> [{stride: last map before its ReLU} of each scale].

    depth: 18 or 34.
    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    remat: segments that are computed again in the backward pass, see models/remat.py.
    """

    depth: int
    conv: ModuleDef
    norm: ModuleDef
    remat: Remat = False

    @nn.compact
    def __call__(self, images: Sequence[Array]) -> list[dict[int, Array]]:
        """Returns {4: (b, h/4, w/4, 64), 8: .., 128), 16: .., 256), 32: .., 512)} of each scale's images.

        Raises UserError for another depth than 18 or 34.
        """
        if self.depth not in (18, 34):
            raise UserError(f"a ResNet-{self.depth} on several scales does not exist here; choose depth 18 or 34.")
        block = rematerialised(PyramidBlock, self.remat)
        maps = rematerialised(_stem, self.remat, "stem")(self, images)
        found = [{} for _ in images]
        for i, count in enumerate(BLOCKS[self.depth]):
            for j in range(count):
                stride = 2 if i and not j else 1
                sums = block(64 * 2**i, self.conv, self.norm, stride, name=f"layer{i + 1}.{j}")(maps)
                maps = [relu(x) for x in sums]
            for scale, x in enumerate(sums):
                found[scale][4 * 2**i] = x
        return found


def _stem(net: PyramidResNet, images: Sequence[Array]) -> list[Array]:
    """Returns each scale's map after the pooling, of its images (b, h, w, 3)."""
    stem = net.conv(64, 7, 2, name="conv1")
    return [max_pool(relu(net.norm(name=f"bn1.{scale}")(stem(x))), 3, 2, 1) for scale, x in enumerate(images)]
