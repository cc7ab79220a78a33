"""SwiftNet (Orsic et al., CVPR 2019): a light ladder on a ResNet-18, with pyramid pooling or on an image pyramid.

Layers and tensor names of orsic/swiftnet. Units are batch norm, ReLU, convolution, in that order, without bias.

The published networks contain the normalisation: pixels 0..255 with mean and deviation of Cityscapes. Here, as in all
networks of this package, the input is normalised (`normalisation="swiftnet"`); the values are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.backbones.efficientnet_lite import BN_EPS
from segjax.models.backbones.resnet import ResNet
from segjax.models.backbones.resnet_pyramid import PyramidResNet
from segjax.models.blocks import PyramidPooling, Unit
from segjax.models.checks import check_images
from segjax.models.heads import seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out, relu
from segjax.models.remat import rematerialised
from segjax.models.trunks import LIGHT
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]

TRUNKS: dict[str, Callable[..., nn.Module]] = {
    # published with ResNets of basic blocks, whose maps are passed on after their ReLU; deeper ones would differ
    **{f"resnet{depth}": partial(ResNet, depth, name="backbone") for depth in (18, 34)},
    **LIGHT,
}
POOL_ROWS = (8, 4, 2)


class LadderNetwork(ImageNetwork):
    """Options and classifier of both SwiftNets.

    features: width of the decoder.
    dropout: rate before the classifier; 0 as published.
    """

    features: int = 128
    dropout: float = 0.0

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output; there is one head."""
        return {"logits": 1.0}

    def classify(self, x: Array, conv: ModuleDef, norm: ModuleDef, train: bool) -> dict[str, Array]:
        """Returns {"logits": (b, h', w', k)} of the decoder's map x (b, h', w', c). Call it in the compact method."""

        def head(net: LadderNetwork, x: Array) -> Array:
            x = relu(norm(name="logits.norm")(x))
            x = Dropout(net.dropout, train=train, name="drop")(x)
            return conv(net.num_classes, 1, use_bias=True, name="logits.conv")(x)

        return {"logits": rematerialised(head, self.recomputed, "head")(self, x)}


class SwiftNet(LadderNetwork):
    """SwiftNet, single scale: images (b, h, w, 3), normalised -> SegOutput.

    trunk: a key of TRUNKS.
    spp_momentum: momentum of the batch norms in the pyramid pooling, whose maps have few pixels.
    """

    trunk: str = "resnet18"
    spp_momentum: float = 0.005

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        if self.trunk not in TRUNKS:
            raise UserError(f"trunk={self.trunk!r} does not exist.{did_you_mean(self.trunk, TRUNKS)}")
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train, kaiming_fan_out)
        trunk = TRUNKS[self.trunk](conv=conv, norm=norm, remat=self.recomputed)
        maps = trunk(images.astype(dtype))
        spp_norm = partial(norm, momentum=self.spp_momentum)
        unit, pyramid = (
            rematerialised(Unit, self.recomputed, "up"),
            rematerialised(PyramidPooling, self.recomputed, "spp"),
        )
        x, _ = pyramid(
            self.features, conv, spp_norm, POOL_ROWS, self.features, self.features // len(POOL_ROWS),
            name="backbone.spp.spp",
        )(maps[32])  # fmt: skip
        features = {f"stride{stride}": y for stride, y in maps.items()} | {"spp": x}
        for i, stride in enumerate((16, 8, 4)):
            name = f"backbone.upsample.{i}"
            skip = unit(self.features, conv, norm, kernel_size=1, name=f"{name}.bottleneck")(maps[stride])
            x = _add(x, skip)
            x = features[f"up{i}"] = unit(self.features, conv, norm, name=f"{name}.blend_conv")(x)
        return seg_output(self.classify(x, conv, norm, train), features, images.shape[1:3], align_corners=False)


class SwiftNetPyramid(LadderNetwork):
    """SwiftNet on an image pyramid: images (b, h, w, 3), normalised -> SegOutput.

    depth: depth of the ResNet, 18 or 34.
    scales: number of scales of the pyramid, each half of the previous one; names of norms and ladder depend on it.

    The published network requires sizes whose maps of all scales fit together. Other images are padded at the bottom
    and right to multiples of 2^(scales - 1), by up to 3 pixels with 3 scales, and the logits are cropped.
    """

    depth: int = 18
    scales: int = 3

    remat_segments = ("block", "stem", "up", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        if self.scales < 1:
            raise UserError(f"scales={self.scales} must be 1 or more.")
        conv, norm = conv_and_norm(self, train, kaiming_fan_out)
        pads = [(0, 0 if self._fits(n) else -n % 2 ** (self.scales - 1)) for n in images.shape[1:3]]
        x = jnp.pad(images, ((0, 0), *pads, (0, 0)))
        trunk = PyramidResNet(self.depth, conv, norm, self.recomputed, name="backbone")
        levels = trunk([level.astype(jnp.dtype(self.dtype)) for level in self._pyramid(x)])

        sums: dict[int, Array] = {}  # stride in pixels of the image -> maps of all scales that have it
        for i, stride in enumerate((32, 16, 8, 4)):
            project = conv(self.features, 1, name=f"backbone.upsample_bottlenecks.{i}")
            for scale, maps in enumerate(levels):
                y, key = project(maps[stride]), stride * 2**scale
                sums[key] = sums[key] + y if key in sums else y
        first, *rest = sorted(sums, reverse=True)
        y, features = sums[first], {}
        for i, stride in enumerate(rest):
            name = f"backbone.upsample_blends.{i}.blend_conv"
            unit = rematerialised(Unit, self.recomputed, "up")
            y = unit(self.features, conv, norm, name=name)(_add(y, sums[stride]))
            features[f"upb{i}"] = y
        heads = self.classify(y, conv, norm, train)
        return seg_output(heads, features, images.shape[1:3], align_corners=False, padded=x.shape[1:3])

    def _pyramid(self, x: Array) -> Sequence[Array]:
        """Returns the image, and the image at 1/2, 1/4, ... by bicubic interpolation without antialiasing."""
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        factors = [0.5**scale for scale in range(1, self.scales)]
        sizes = [tuple(int(n * factor) for n in x.shape[1:3]) for factor in factors]
        smaller = [resize(wide, s, method="bicubic", scale_factor=f) for s, f in zip(sizes, factors)]
        return [x, *smaller]

    def _fits(self, n: int) -> bool:
        """Returns whether maps of the same stride have the same size at all scales, for an image side of n pixels."""
        sides = [[-(-(n // 2**s) // stride) for s in range(self.scales)] for stride in (4, 8, 16, 32)]
        pairs = [(i, s) for i in range(1, 4) for s in range(1, self.scales)]
        return n >= 2 ** (self.scales - 1) and all(sides[i - 1][s] == sides[i][s - 1] for i, s in pairs)


def _add(x: Array, skip: Array) -> Array:
    """Returns x upsampled to the size of skip, plus skip."""
    return resize(x, skip.shape[1:3]) + skip


swiftnet_r18 = partial(SwiftNet, trunk="resnet18")
swiftnet_r18_pyramid = partial(SwiftNetPyramid, depth=18)
swiftnet_efficientnet_lite0 = partial(SwiftNet, trunk="efficientnet_lite0", bn_eps=BN_EPS)
