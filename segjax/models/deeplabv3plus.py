"""DeepLabV3+ (Chen et al., ECCV 2018) in the form of VPLR (Zhu et al., CVPR 2019), on any trunk.

VPLR's head differs from the paper's: image pool and skip come first in the concatenations; the projections of pyramid
and skip have no batch norm and no ReLU; 3x3 convolutions are dense; no layer has a bias, not even the classifier;
upsampling is bilinear with align_corners=True. Tensor names are VPLR's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.backbones.densenet import DenseNet
from segjax.models.backbones.efficientnet_lite import BN_EPS
from segjax.models.backbones.resnet import VPLR_STEM, ResNet, resnext50_32x4d, se_resnext50_32x4d, se_resnext101_32x4d
from segjax.models.backbones.wide_resnet import WideResNet38
from segjax.models.blocks import FactoredConv
from segjax.models.checks import check_images
from segjax.models.heads import seg_output
from segjax.models.layers import (
    Dropout,
    ImageNetwork,
    conv_and_norm,
    kaiming_fan_in,
    kaiming_fan_out,
    norm_of_means,
    relu,
    torch_default,
)
from segjax.models.remat import rematerialised
from segjax.models.trunks import LIGHT
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]

# VPLR's trunks dilate every block of layer3 and layer4 and have no prefix; the stem of its ResNets is named layer0
_vplr_resnet = partial(ResNet, dilation_rule="all_blocks", stem_names=VPLR_STEM)
TRUNKS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(_vplr_resnet, depth) for depth in (18, 34, 50, 101)},
    "resnext50_32x4d": partial(resnext50_32x4d, dilation_rule="all_blocks", stem_names=VPLR_STEM),
    "se_resnext50_32x4d": partial(se_resnext50_32x4d, dilation_rule="all_blocks"),
    "se_resnext101_32x4d": partial(se_resnext101_32x4d, dilation_rule="all_blocks"),
    "wide_resnet38": WideResNet38,
    **{f"densenet{depth}": partial(DenseNet, depth, norm5=True) for depth in (121, 161, 169)},
    **LIGHT,
}
RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}  # the field of view in image pixels is the same


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: image mean, 1x1 and dilated 3x3 convolutions, concatenated."""

    features: int
    rates: tuple[int, ...]
    conv: ModuleDef
    conv3x3: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, (2 + len(rates)) * features)."""
        norm = norm_of_means(self.norm, x.shape[0])
        pool = self.conv(self.features, 1, name="img_conv.0")(x.mean((1, 2), keepdims=True))
        pool = relu(norm(name="img_conv.1")(pool))
        branches = [jnp.broadcast_to(pool, (*x.shape[:3], self.features))]
        for i, rate in enumerate((0, *self.rates)):
            conv = self.conv(self.features, 1, name="features.0.0") if i == 0 else self.conv3x3(
                self.features, dilation=rate, name=f"features.{i}.0"
            )  # fmt: skip
            branches.append(relu(self.norm(name=f"features.{i}.1")(conv(x))))
        return jnp.concatenate(branches, -1)


class DeepLabV3Plus(ImageNetwork):
    """DeepLabV3+ in VPLR's form: images (b, h, w, 3), normalised -> SegOutput.

    trunk: a key of TRUNKS.
    output_stride: output stride of the trunk, 8, 16 or 32.
    rates: dilations of the pyramid; None for 12, 24, 36 at output stride 8, halved at 16 and again at 32.
    aspp_channels, skip_channels, decoder_channels: widths of a pyramid branch, the projected skip and the decoder.
    skip_strides: strides of the trunk maps that the decoder merges, coarse to fine. The published decoder has one,
        (4,). After each further one follows a 3x3 convolution (names `ladder.STRIDE`); so output stride 32 is usable.
    separable: build the 3x3 convolutions of pyramid and decoder as depthwise and pointwise convolutions.
    dropout: rate before the classifier; 0 as published.
    trunk_dropout: rates of the channel dropout in the last two modules of wide_resnet38, (0.3, 0.5) as published, or
        () for none.
    pool_padding: padding of the trunk's 3x3 stride-2 max pooling: 1 (torchvision), or 0 (Cadene: no padding at the top
        and left, a partial window at the bottom and right). None for the value of the published trunk.
    align_corners: of all upsampling; NVIDIA's later weights (branch main) were trained with False.
    """

    trunk: str = "resnet50"
    output_stride: int = 8
    rates: tuple[int, ...] | None = None
    aspp_channels: int = 256
    skip_channels: int = 48
    decoder_channels: int = 256
    skip_strides: tuple[int, ...] = (4,)
    separable: bool = False
    dropout: float = 0.0
    trunk_dropout: tuple[float, ...] = ()
    pool_padding: int | None = None
    align_corners: bool = True

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        # the pooling of the SE trunks has no padding and requires two pixels
        check_images(images, smallest=3 if self.trunk.startswith("se_resnext") else 1)
        self._check()
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train, kaiming_fan_in)
        # VPLR's WideResNet38 initialises only the last layers with kaiming_fan_in
        inner = partial(conv, kernel_init=torch_default) if self.trunk == "wide_resnet38" else conv
        inner3x3 = partial(FactoredConv, conv=inner) if self.separable else partial(inner, kernel_size=3)
        conv3x3 = partial(FactoredConv, conv=conv) if self.separable else partial(conv, kernel_size=3)

        trunk = TRUNKS[self.trunk](
            conv=partial(conv, kernel_init=kaiming_fan_out), norm=norm,
            output_stride=self.output_stride, remat=self.recomputed, **self._pool(),
            **({"dropout": tuple(self.trunk_dropout), "train": train} if self.trunk_dropout else {}),
        )  # fmt: skip
        if trunk.name != "backbone":
            nn.share_scope(self, trunk)
        maps = trunk(images.astype(dtype))
        missing = [s for s in self.skip_strides if s not in maps or s >= self.output_stride]
        if missing:
            raise UserError(
                f"skip_strides={self.skip_strides}: {self.trunk} has no map of stride {missing[0]} to skip."
            )

        rates = RATES[self.output_stride] if self.rates is None else tuple(self.rates)

        def context(net: DeepLabV3Plus, x: Array) -> Array:
            x = ASPP(net.aspp_channels, rates, inner, inner3x3, norm, name="aspp")(x)
            return inner(net.decoder_channels, 1, name="bot_aspp")(x)

        def up(net: DeepLabV3Plus, x: Array, skip: Array, stride: int) -> Array:
            x = net._merge(x, conv(net.skip_channels, 1, name=f"ladder.{stride}.skip")(skip))
            x = conv3x3(net.decoder_channels, name=f"ladder.{stride}.0")(x)
            return relu(norm(name=f"ladder.{stride}.1")(x))

        def head(net: DeepLabV3Plus, x: Array, skip: Array) -> Array:
            x = net._merge(x, inner(net.skip_channels, 1, name="bot_fine")(skip))
            for i in (0, 3):
                x = relu(norm(name=f"final.{i + 1}")(conv3x3(net.decoder_channels, name=f"final.{i}")(x)))
            if net.dropout:
                x = Dropout(net.dropout, train=train, name="drop")(x)
            return conv(net.num_classes, 1, name="final.6")(x)

        x = bot = rematerialised(context, self.recomputed, "spp")(self, maps[self.output_stride])
        for stride in self.skip_strides[:-1]:
            x = rematerialised(partial(up, stride=stride), self.recomputed, "up")(self, x, maps[stride])
        x = rematerialised(head, self.recomputed, "head")(self, x, maps[self.skip_strides[-1]])
        features = {f"stride{s}": maps[s] for s in maps} | {"aspp_bot": bot}
        return seg_output({"logits": x}, features, images.shape[1:3], align_corners=self.align_corners)

    @property
    def remat_segments(self) -> tuple[str, ...]:
        """Returns the segments of the network."""
        dense = ("conv3x3", "cat1x1", "layer", "td") if self._dense else ()
        return (*dense, "block", "stem", "spp", "up", "head")

    @property
    def usual_remat(self) -> str:
        """Returns the segments that remat=True stands for."""
        return "layer" if self._dense else "block"

    @property
    def _dense(self) -> bool:
        return self.trunk.startswith("densenet")

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output; VPLR trains without auxiliary heads."""
        return {"logits": 1.0}

    def _merge(self, x: Array, skip: Array) -> Array:
        """Returns skip (b, h, w, c') and x (b, .., .., c) upsampled to its size, joined: (b, h, w, c' + c)."""
        return jnp.concatenate([skip, resize(x, skip.shape[1:3], align_corners=self.align_corners)], -1)

    def _pool(self) -> dict[str, object]:
        if self.pool_padding is None:
            return {}
        if self.pool_padding not in (0, 1) or "resne" not in self.trunk or self.trunk.startswith("wide"):
            raise UserError(f"pool_padding={self.pool_padding} is not possible with {self.trunk}; leave it out.")
        return {"pool_padding": self.pool_padding, "pool_ceil": self.pool_padding == 0}

    def _check(self) -> None:
        if self.trunk not in TRUNKS:
            raise UserError(f"trunk={self.trunk!r} does not exist.{did_you_mean(self.trunk, TRUNKS)}")
        if self.trunk_dropout and self.trunk != "wide_resnet38":
            raise UserError(f"trunk_dropout={self.trunk_dropout}: {self.trunk} has no dropout; leave it ().")
        if self.output_stride not in RATES:
            raise UserError(f"output_stride={self.output_stride} is not possible; choose 8, 16 or 32.")
        if self.rates is not None and min(self.rates, default=0) < 1:
            raise UserError(f"rates={self.rates} must be dilations of 1 or more.")
        if not self.skip_strides or list(self.skip_strides) != sorted(self.skip_strides, reverse=True):
            raise UserError(
                f"skip_strides={self.skip_strides} must name strides from coarse to fine, such as (16, 8, 4)."
            )


deeplabv3plus_r18 = partial(DeepLabV3Plus, trunk="resnet18")
deeplabv3plus_r50 = partial(DeepLabV3Plus, trunk="resnet50")
deeplabv3plus_r101 = partial(DeepLabV3Plus, trunk="resnet101")
deeplabv3plus_rnx50 = partial(DeepLabV3Plus, trunk="resnext50_32x4d")
deeplabv3plus_srnx50 = partial(DeepLabV3Plus, trunk="se_resnext50_32x4d")
deeplabv3plus_srnx101 = partial(DeepLabV3Plus, trunk="se_resnext101_32x4d")
deeplabv3plus_wrn38 = partial(DeepLabV3Plus, trunk="wide_resnet38", skip_strides=(2,), trunk_dropout=(0.3, 0.5))
_lite = partial(
    DeepLabV3Plus, output_stride=16, aspp_channels=128, skip_channels=32, decoder_channels=96, bn_eps=BN_EPS
)
deeplabv3plus_efficientnet_lite0 = partial(_lite, trunk="efficientnet_lite0")
deeplabv3plus_efficientnet_lite1 = partial(_lite, trunk="efficientnet_lite1")
deeplabv3plus_efficientnet_lite2 = partial(_lite, trunk="efficientnet_lite2")
deeplabv3plus_mobilenet_v2 = partial(
    DeepLabV3Plus, trunk="mobilenet_v2", output_stride=16, aspp_channels=128, skip_channels=32, decoder_channels=96
)
