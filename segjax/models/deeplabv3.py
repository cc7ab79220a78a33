"""DeepLabV3 (Chen et al., 2017) in its two PyTorch forms, whose weights are incompatible.

torchvision: 7x7 stem, upsampling with align_corners=False, elementwise dropout in the pyramid.
encoding (PyTorch-Encoding, GluonCV; tensor names of Tramac's port): deep stem, align_corners=True, dropout of whole
channels in the pyramid, a second dropout before the classifier.

Both dilate by torchvision's rule and have an auxiliary FCN head on layer3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.backbones.resnet import DEEP_STEM, STEM, ResNet
from segjax.models.checks import check_images
from segjax.models.heads import FCNHead, find_form, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out, norm_of_means, relu
from segjax.models.remat import rematerialised
from segjax.models.trunks import find_trunk
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]


class Form(NamedTuple):
    """Tensor names of a published network, and its other differences.

    trunk, stem: prefix of the ResNet, and names in its stem.
    pyramid: prefix of the pyramid.
    branches: prefixes of the 1x1 and the dilated 3x3 branches; convolution and norm are PREFIX.0 and PREFIX.1.
    pool: names of convolution and norm of the image branch.
    block: names of convolution, norm and classifier after the pyramid.
    aux, aux_weight: prefix of the auxiliary head, and published weight of its loss.
    align_corners: of the upsampling of logits.
    drop_channels: drop whole channels in the pyramid.
    drop_before_classifier: with a second dropout.
    """

    trunk: str
    stem: tuple[str, ...]
    pyramid: str
    branches: tuple[str, ...]
    pool: tuple[str, str]
    block: tuple[str, str, str]
    aux: str
    aux_weight: float
    align_corners: bool
    drop_channels: bool
    drop_before_classifier: bool


FORMS = {
    "torchvision": Form(
        trunk="backbone", stem=STEM, pyramid="classifier.0", branches=tuple(f"convs.{i}" for i in range(4)),
        pool=("convs.4.1", "convs.4.2"), block=("classifier.1", "classifier.2", "classifier.4"), aux="aux_classifier",
        aux_weight=0.5, align_corners=False, drop_channels=False, drop_before_classifier=False,
    ),
    "encoding": Form(
        trunk="pretrained", stem=DEEP_STEM, pyramid="head.aspp", branches=("b0", "b1.block", "b2.block", "b3.block"),
        pool=("b4.gap.1", "b4.gap.2"), block=("head.block.0", "head.block.1", "head.block.4"), aux="auxlayer.block",
        aux_weight=0.2, align_corners=True, drop_channels=True, drop_before_classifier=True,
    ),
}  # fmt: skip
RATES = {8: (12, 24, 36), 16: (6, 12, 18)}


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1 and dilated 3x3 convolutions and the image mean, joined and projected."""

    features: int
    rates: tuple[int, ...]
    form: Form
    conv: ModuleDef
    norm: ModuleDef
    drop: ModuleDef

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, features)."""
        maps = []
        for rate, name in zip((0, *self.rates), self.form.branches):
            y = self.conv(self.features, 3 if rate else 1, dilation=rate or 1, name=f"{name}.0")(x)
            maps.append(relu(self.norm(name=f"{name}.1")(y)))
        norm = norm_of_means(self.norm, x.shape[0])
        pool = self.conv(self.features, 1, name=self.form.pool[0])(x.mean((1, 2), keepdims=True))
        pool = relu(norm(name=self.form.pool[1])(pool))
        maps.append(jnp.broadcast_to(pool, (*x.shape[:3], self.features)))
        x = self.conv(self.features, 1, name="project.0")(jnp.concatenate(maps, -1))
        return self.drop(name="project.3")(relu(self.norm(name="project.1")(x)))


class DeepLabV3(ImageNetwork):
    """DeepLabV3: images (b, h, w, 3), normalised -> SegOutput; with `aux`, also auxiliary logits "aux" at input size.

    depth: depth of the ResNet, 50 or 101.
    trunk: a key of `trunks.LIGHT` that replaces the ResNet.
    form: "torchvision" or "encoding", see above; the weights of both require RGB with ImageNet's normalisation.
    output_stride: 8 as published, or 16 with halved dilations.
    dropout: rate in the pyramid.
    head_dropout: rate before the classifiers that have a dropout.
    """

    depth: int = 101
    trunk: str | None = None
    form: Literal["torchvision", "encoding"] = "torchvision"
    aux: bool = True
    output_stride: int = 8
    dropout: float = 0.5
    head_dropout: float = 0.1

    remat_segments = ("block", "stem", "spp", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        form = self._form()
        if self.output_stride not in RATES:
            raise UserError(f"output_stride={self.output_stride} is not possible with DeepLabV3; choose 8 or 16.")
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        drop = partial(Dropout, train=train)

        trunk = find_trunk(
            self.trunk, partial(ResNet, self.depth, stem_names=form.stem, name=form.trunk),
            conv=partial(conv, kernel_init=kaiming_fan_out), norm=norm, output_stride=self.output_stride,
            remat=self.recomputed,
        )  # fmt: skip
        maps = trunk.stages(images.astype(dtype))
        pyramid_drop = partial(drop, self.dropout, channels=form.drop_channels)
        pyramid, fcn_head = (
            rematerialised(kind, self.recomputed, name) for kind, name in ((ASPP, "spp"), (FCNHead, "head"))
        )
        x = pyramid(256, RATES[self.output_stride], form, conv, norm, pyramid_drop, name=form.pyramid)(maps["layer4"])
        features = maps | {"aspp": x}

        def head(net: DeepLabV3, x: Array) -> Array:
            x = relu(norm(name=form.block[1])(conv(256, 3, name=form.block[0])(x)))
            if form.drop_before_classifier:
                x = drop(net.head_dropout, name="head.block.3")(x)
            return conv(net.num_classes, 1, use_bias=True, name=form.block[2])(x)

        heads = {"logits": rematerialised(head, self.recomputed, "head")(self, x)}
        if self.aux:
            aux = fcn_head(self.num_classes, conv, norm, partial(drop, self.head_dropout), name=form.aux)
            heads["aux"] = aux(maps["layer3"])
        return seg_output(heads, features, images.shape[1:3], align_corners=form.align_corners)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output (torchvision 0.5, PyTorch-Encoding 0.2)."""
        return {"logits": 1.0, "aux": self._form().aux_weight} if self.aux else {"logits": 1.0}

    def _form(self) -> Form:
        return find_form("DeepLabV3", self.form, FORMS)


deeplabv3_r50 = partial(DeepLabV3, depth=50)
deeplabv3_r101 = partial(DeepLabV3, depth=101)
