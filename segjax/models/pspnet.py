"""PSPNet (Zhao et al., CVPR 2017) on a dilated ResNet, in its PyTorch forms.

semseg (hszhao/semseg, the authors'): all blocks of layer3 and layer4 are dilated; dropout of whole channels; auxiliary
    loss weight 0.4. Image sides are 8 n + 1; others are padded with zeros (the mean colour) at the bottom and right.
encoding (PyTorch-Encoding, GluonCV): torchvision's dilation rule, elementwise dropout, auxiliary loss weight 0.2, any
    size.
mmseg (mmsegmentation's R-50-D8, R-101-D8): as encoding, except for a deep stem of half the width, align_corners=False,
    dropout of whole channels and auxiliary loss weight 0.4.
mmseg_b (R-50b-D8, R-101b-D8): as mmseg, with torchvision's stem.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.backbones.resnet import DEEP_STEM, MMSEG_STEM, SEMSEG_STEM, STEM, DilationRule, ResNet
from segjax.models.blocks import pyramid
from segjax.models.checks import check_images
from segjax.models.heads import MMSEG_NAMES, FCNHead, find_form, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out, norm_of_means, relu
from segjax.models.remat import rematerialised
from segjax.models.trunks import find_trunk
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]
BINS = (1, 2, 3, 6)


class Form(NamedTuple):
    """Tensor names of a published network, and its other differences.

    trunk, stem: prefix of the ResNet, None for none, and names in its stem.
    dilation_rule, deep_stem_width: of the ResNet.
    pyramid: prefix of the pyramid pooling.
    levels: names of convolution and norm of each bin size.
    block: names of convolution, norm and classifier after the pyramid.
    aux, aux_weight, aux_names: prefix of the auxiliary head, published weight of its loss, names of its layers.
    drop_channels: drop whole channels.
    one_more_than_8n: pad image sides to 8 n + 1.
    align_corners: of all upsampling.
    """

    trunk: str | None
    stem: tuple[str, ...]
    dilation_rule: DilationRule
    pyramid: str
    levels: tuple[tuple[str, str], ...]
    block: tuple[str, str, str]
    aux: str
    aux_weight: float
    drop_channels: bool
    one_more_than_8n: bool
    align_corners: bool = True
    deep_stem_width: int = 64
    aux_names: tuple[str, str, str] = ("0", "1", "4")


FORMS = {
    "semseg": Form(
        trunk=None, stem=SEMSEG_STEM, dilation_rule="all_blocks", pyramid="ppm",
        levels=tuple((f"features.{i}.1", f"features.{i}.2") for i in range(4)), block=("cls.0", "cls.1", "cls.4"),
        aux="aux", aux_weight=0.4, drop_channels=True, one_more_than_8n=True,
    ),
    "encoding": Form(
        trunk="pretrained", stem=DEEP_STEM, dilation_rule="torchvision", pyramid="head.conv5.0",
        levels=tuple((f"conv{i}.0", f"conv{i}.1") for i in range(1, 5)),
        block=("head.conv5.1", "head.conv5.2", "head.conv5.5"), aux="auxlayer.conv5", aux_weight=0.2,
        drop_channels=False, one_more_than_8n=False,
    ),
    "mmseg": Form(
        trunk="backbone", stem=MMSEG_STEM, dilation_rule="torchvision", pyramid="decode_head.psp_modules",
        levels=tuple((f"{i}.1.conv", f"{i}.1.bn") for i in range(4)),
        block=("decode_head.bottleneck.conv", "decode_head.bottleneck.bn", "decode_head.conv_seg"),
        aux="auxiliary_head", aux_weight=0.4, drop_channels=True, one_more_than_8n=False, align_corners=False,
        deep_stem_width=32, aux_names=MMSEG_NAMES,
    ),
}  # fmt: skip
FORMS["mmseg_b"] = FORMS["mmseg"]._replace(stem=STEM)


class PyramidPooling(nn.Module):
    """Pyramid pooling: means over 1, 2, 3 and 6 bins per side, projected to c / 4 channels, appended to the input."""

    levels: tuple[tuple[str, str], ...]
    conv: ModuleDef
    norm: ModuleDef
    align_corners: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, 2 c)."""

        def project(i: int, means: Array) -> Array:
            conv, norm = self.levels[i]
            y = self.conv(x.shape[-1] // 4, 1, name=conv)(means)
            return relu(norm_of_means(self.norm, math.prod(y.shape[:3]))(name=norm)(y))

        return jnp.concatenate(pyramid(x, BINS, project, align_corners=self.align_corners), -1)


class PSPNet(ImageNetwork):
    """PSPNet: images (b, h, w, 3), normalised -> SegOutput; with `aux`, also auxiliary logits "aux" at input size.

    depth: depth of the ResNet, 50 or 101.
    trunk: a key of `trunks.LIGHT` that replaces the ResNet.
    form: a key of FORMS, see above.
    output_stride: 8 as published, 16 or 32.
    dropout: rate before both classifiers.
    align_corners: of all upsampling; None for the form's value. True for mmsegmentation's weights for crops of 769.
    """

    depth: int = 101
    trunk: str | None = None
    form: Literal["semseg", "encoding", "mmseg", "mmseg_b"] = "semseg"
    aux: bool = True
    output_stride: int = 8
    dropout: float = 0.1
    align_corners: bool | None = None

    remat_segments = ("block", "stem", "spp", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        form = self._form()
        align_corners = form.align_corners if self.align_corners is None else self.align_corners
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        drop = partial(Dropout, self.dropout, train=train, channels=form.drop_channels)

        h, w = images.shape[1:3]
        if form.one_more_than_8n:
            images = jnp.pad(images, ((0, 0), (0, -(h - 1) % 8), (0, -(w - 1) % 8), (0, 0)))
        resnet = partial(
            ResNet, self.depth, dilation_rule=form.dilation_rule, stem_names=form.stem,
            deep_stem_width=form.deep_stem_width, name=form.trunk,
        )  # fmt: skip
        trunk = find_trunk(
            self.trunk, resnet, conv=partial(conv, kernel_init=kaiming_fan_out), norm=norm,
            output_stride=self.output_stride, remat=self.recomputed,
        )  # fmt: skip
        if self.trunk is None and form.trunk is None:
            nn.share_scope(self, trunk)
        maps = trunk.stages(images.astype(dtype))
        remat = self.recomputed

        def head(net: PSPNet, x: Array) -> tuple[Array, Array]:
            pyramid = rematerialised(PyramidPooling, remat if "head" not in remat else False, "spp")
            joined = pyramid(form.levels, conv, norm, align_corners, name=form.pyramid)(x)
            x = relu(norm(name=form.block[1])(conv(512, 3, name=form.block[0])(joined)))
            return joined, conv(net.num_classes, 1, use_bias=True, name=form.block[2])(drop(name="drop")(x))

        # one segment with the pyramid, whose joined map has twice the channels of its input
        joined, logits = rematerialised(head, remat, "head")(self, maps["layer4"])
        features, heads = maps | {"stem": maps["layer0"], "ppm": joined}, {"logits": logits}
        if self.aux:
            fcn_head = rematerialised(FCNHead, remat, "head")
            aux = fcn_head(self.num_classes, conv, norm, drop, names=form.aux_names, name=form.aux)
            heads["aux"] = aux(maps["layer3"])
        return seg_output(heads, features, (h, w), align_corners=align_corners, padded=images.shape[1:3])

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output.

        "aux" has 0.4 (hszhao/semseg, mmsegmentation) or 0.2 (PyTorch-Encoding).
        """
        return {"logits": 1.0, "aux": self._form().aux_weight} if self.aux else {"logits": 1.0}

    def _form(self) -> Form:
        return find_form("PSPNet", self.form, FORMS)


pspnet_r50 = partial(PSPNet, depth=50)
pspnet_r101 = partial(PSPNet, depth=101)
