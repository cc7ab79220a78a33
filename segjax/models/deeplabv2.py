"""DeepLabV2 (Chen et al., PAMI 2018) with three scales, in the form of kazuto1011/deeplab-pytorch.

The published weights require BGR pixels in 0..255 minus (104.008, 116.669, 122.675): `bgr=True` and the normalisation
"caffe". Their batch norms were frozen in training: the statistics (`frozen_bn`), and scale and bias by a rule of the
optimizer.

The domain-adaptation networks that descend from AdaptSegNet have `scales=(), rates=(6, 12), frozen_bn=False`. There, a
misplaced return sums only the first two of the four branches, and the running statistics are updated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.backbones.resnet_caffe import CaffeResNet
from segjax.models.checks import check_images
from segjax.models.heads import seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_in
from segjax.models.remat import Remat
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the sum of dilated 3x3 convolutions to the classes; no norm, no ReLU."""

    num_classes: int
    rates: tuple[int, ...]
    conv: ModuleDef

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to logits (b, h, w, k)."""
        conv = partial(
            self.conv, self.num_classes, 3, use_bias=True, kernel_init=nn.initializers.normal(0.01),
            bias_init=nn.initializers.zeros,
        )  # fmt: skip
        return sum(conv(dilation=rate, name=f"c{i}")(x) for i, rate in enumerate(self.rates))


class SingleScale(nn.Module):
    """Trunk and pyramid of one scale.

    depth: depth of the ResNet.
    rates: dilations of the pyramid.
    conv, norm, drop: constructors of the layers.
    remat: segments that are computed again in the backward pass, of block and stem. The pyramid keeps its input only.
    """

    num_classes: int
    depth: int
    rates: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    drop: ModuleDef
    remat: Remat

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """Returns logits (b, h/8, w/8, k) and the trunk's stages, for images (b, h, w, 3) in the computation's type."""
        trunk = CaffeResNet(self.depth, self.conv, self.norm, remat=self.remat)
        nn.share_scope(self, trunk)
        maps = trunk.stages(images)
        return ASPP(self.num_classes, self.rates, self.conv, name="aspp")(self.drop(name="drop")(maps["layer5"])), maps


class DeepLabV2(ImageNetwork):
    """DeepLabV2: images (b, h, w, 3) -> SegOutput.

    With several scales, the logits are their maximum at 1/8 of the image, upsampled. The logits of each scale are
    auxiliary outputs ("logits100", "logits050", "logits075"), each at 1/8 of its scaled image.

    depth: depth of the ResNet, 50 or 101.
    rates: dilations of the pyramid.
    scales: scales of the image in addition to 1; () for one scale and no auxiliary outputs.
    bgr: reverse the channels of the RGB images: the published weights require BGR.
    frozen_bn: use the running statistics in training too, and do not update them.
    dropout: rate before the pyramid; 0 as published.
    """

    depth: int = 101
    rates: tuple[int, ...] = (6, 12, 18, 24)
    scales: tuple[float, ...] = (0.5, 0.75)
    bgr: bool = False
    frozen_bn: bool = True
    dropout: float = 0.0
    bn_momentum: float = 0.001

    remat_segments = ("block", "stem")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics, unless they are frozen, and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        self._check()
        check_images(images, smallest=max(1, *(int(-(-1 // s)) for s in self.scales)) if self.scales else 1)
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train and not self.frozen_bn, kaiming_fan_in)
        drop = partial(Dropout, self.dropout, train=train)
        base = SingleScale(self.num_classes, self.depth, self.rates, conv, norm, drop, self.recomputed, name="base")

        size = images.shape[1:3]
        images = images[..., ::-1] if self.bgr else images
        heads = {}
        for scale in (1.0, *self.scales):
            scaled = images
            if scale != 1:
                target = tuple(int(n * scale) for n in size)
                scaled = resize(images, target, scale_factor=scale)
            y, maps = base(scaled.astype(dtype))
            heads[_head(scale)] = y.astype(jnp.promote_types(y.dtype, jnp.float32))
        first = next(iter(heads.values()))
        largest = first
        for y in list(heads.values())[1:]:
            largest = jnp.maximum(largest, resize(y, first.shape[1:3]))
        aux = heads if self.scales else {}
        return seg_output({"logits": largest}, maps | {"max": largest}, size, align_corners=False, aux=aux)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output: 1 for each scale and their maximum (kazuto1011)."""
        return {"logits": 1.0} | {_head(s): 1.0 for s in ((1.0, *self.scales) if self.scales else ())}

    def _check(self) -> None:
        if self.frozen_bn and self.bn_groups > 1:
            raise UserError(
                f"bn_groups={self.bn_groups} has no effect with frozen_bn=True, where batch norms use their running "
                "statistics in training too; leave one of them out."
            )
        if any(not 0 < s <= 4 or s == 1 for s in self.scales):
            raise UserError(f"scales={self.scales} of DeepLabV2 are those beside 1, between 0 and 4.")
        if not self.rates:
            raise UserError("rates=() leaves DeepLabV2 without a pyramid; give at least one dilation.")


def _head(scale: float) -> str:
    return f"logits{round(100 * scale):03d}"


deeplabv2_r101 = partial(DeepLabV2, depth=101)
