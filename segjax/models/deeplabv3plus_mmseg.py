"""DeepLabV3+ (Chen et al., ECCV 2018) in the form of OpenMMLab mmsegmentation, with its tensor names.

It differs from VPLR's form (deeplabv3plus.py) in nearly every layer of the head. Its depthwise separable convolutions
have norm and ReLU in both halves and 512 channels. A dense 3x3 convolution fuses the pyramid, and upsampling has
align_corners=False. Whole channels are dropped before the classifier, and layer3 has an auxiliary head. The trunk is
ResNetV1c: a deep stem of half the usual width, torchvision's dilation rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.backbones.resnet import MMSEG_STEM, STEM, ResNet
from segjax.models.blocks import ConvNormReLU, SeparableConv
from segjax.models.checks import check_images
from segjax.models.heads import MMSEG_NAMES, FCNHead, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out, norm_of_means
from segjax.models.remat import Remat, rematerialised
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]

CHANNELS = 512  # of every branch of the pyramid and of the decoder
SKIP_CHANNELS = 48
SEPARABLE = ("depthwise_conv.conv", "depthwise_conv.bn", "pointwise_conv.conv", "pointwise_conv.bn")
RATES = {8: (12, 24, 36), 16: (6, 12, 18)}


class SeparableHead(nn.Module):
    """Head: a fused pyramid of separable dilated convolutions, joined with a projection of layer1 and refined twice."""

    num_classes: int
    rates: tuple[int, ...]
    align_corners: bool
    conv: ModuleDef
    norm: ModuleDef
    drop: ModuleDef
    remat: Remat = False

    @nn.compact
    def __call__(self, x: Array, skip: Array) -> tuple[Array, Array]:
        """Maps x (b, h, w, c), skip (b, h', w', c') to logits (b, h', w', k) and the fused pyramid (b, h, w, 512)."""
        unit = partial(ConvNormReLU, conv=self.conv, norm=self.norm, kernel_size=1)
        separable = partial(SeparableConv, CHANNELS, self.conv, self.norm, names=SEPARABLE)

        def pyramid(head: SeparableHead, x: Array) -> Array:
            norm = norm_of_means(head.norm, x.shape[0])
            pool = unit(CHANNELS, norm=norm, name="image_pool.1")(x.mean((1, 2), keepdims=True))
            maps = [jnp.broadcast_to(pool, (*x.shape[:3], CHANNELS)), unit(CHANNELS, name="aspp_modules.0")(x)]
            rates = enumerate(head.rates, start=1)
            maps += [separable(dilation=rate, name=f"aspp_modules.{i}")(x) for i, rate in rates]
            return unit(CHANNELS, kernel_size=3, name="bottleneck")(jnp.concatenate(maps, -1))

        def classify(head: SeparableHead, fused: Array, skip: Array) -> Array:
            skip = unit(SKIP_CHANNELS, name="c1_bottleneck")(skip)
            y = jnp.concatenate([resize(fused, skip.shape[1:3], align_corners=head.align_corners), skip], -1)
            for i in range(2):
                y = separable(name=f"sep_bottleneck.{i}")(y)
            last = head.conv(
                head.num_classes, 1, use_bias=True, kernel_init=nn.initializers.normal(0.01), name="conv_seg"
            )
            return last(head.drop(name="drop")(y))

        fused = rematerialised(pyramid, self.remat, "spp")(self, x)
        return rematerialised(classify, self.remat, "head")(self, fused, skip), fused


class MMSegDeepLabV3Plus(ImageNetwork):
    """DeepLabV3+: images (b, h, w, 3), normalised -> SegOutput; with `aux`, also auxiliary logits "aux" at input size.

    depth: depth of the ResNet, 50 or 101.
    deep_stem: True for ResNetV1c (R-50-D8, R-101-D8), False for torchvision's stem (R-50b-D8, R-101b-D8).
    output_stride: 8, or 16 with halved dilations.
    multi_grid: dilations of layer4's blocks; R-101-D16-MG124 has output_stride=16, multi_grid=(1, 2, 4).
    align_corners: of all upsampling; True for the published weights for crops of 769.
    dropout: rate of whole channels before both classifiers.
    """

    depth: int = 50
    deep_stem: bool = True
    aux: bool = True
    output_stride: int = 8
    multi_grid: tuple[int, ...] = ()
    align_corners: bool = False
    dropout: float = 0.1

    remat_segments = ("block", "stem", "spp", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        if self.output_stride not in RATES:
            raise UserError(f"output_stride={self.output_stride} is not possible with DeepLabV3+; choose 8 or 16.")
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train, kaiming_fan_out)
        drop = partial(Dropout, self.dropout, train=train, channels=True)
        trunk = ResNet(
            self.depth, conv, norm, self.output_stride, stem_names=MMSEG_STEM if self.deep_stem else STEM,
            deep_stem_width=32, multi_grid=tuple(self.multi_grid), remat=self.recomputed, name="backbone",
        )  # fmt: skip
        maps = trunk.stages(images.astype(dtype))
        head = SeparableHead(
            self.num_classes, RATES[self.output_stride], self.align_corners, conv, norm, drop, self.recomputed,
            name="decode_head",
        )  # fmt: skip
        logits, fused = head(maps["layer4"], maps["layer1"])
        heads = {"logits": logits}
        if self.aux:
            fcn_head = rematerialised(FCNHead, self.recomputed, "head")
            quarter = fcn_head(self.num_classes, conv, norm, drop, names=MMSEG_NAMES, name="auxiliary_head")
            heads["aux"] = quarter(maps["layer3"])
        return seg_output(heads, maps | {"aspp": fused}, images.shape[1:3], align_corners=self.align_corners)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output (mmsegmentation's configurations)."""
        return {"logits": 1.0, "aux": 0.4} if self.aux else {"logits": 1.0}


deeplabv3plus_r50_mmseg = partial(MMSegDeepLabV3Plus, depth=50)
deeplabv3plus_r101_mmseg = partial(MMSegDeepLabV3Plus, depth=101)
