"""ICNet (Zhao et al., ECCV 2018): a cascade of three branches, of which the deeper ones read smaller images.

tramac: the port of Tramac/awesome-semantic-segmentation-pytorch. The coarse branch runs the whole trunk on the image at
    1/4, with a pyramid pooling that adds. In training the medium branch runs the whole trunk too, at 1/2, as in the
    port: its layer3 and layer4 only update the running statistics.
gluon: GluonCV's form. The coarse branch continues from the medium branch's layer2, with PSPNet's pyramid; 47 M
    parameters.

Both use a deep-stem ResNet at stride 8 with torchvision's dilation rule and align_corners=True. The authors' Caffe
release is not implemented: it halves the width of every layer and has loss weights 1, 0.4, 0.16 at 1/4, 1/8, 1/16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.backbones.resnet import DEEP_STEM, ResNet
from segjax.models.blocks import pyramid
from segjax.models.checks import check_images
from segjax.models.heads import find_form, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out, relu
from segjax.models.pspnet import BINS, PyramidPooling
from segjax.models.remat import rematerialised
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]
# Of the outputs at full size, 1/8 and 1/16. GluonCV's loss has one term at full size, 1.0, and one at 1/4, 0.4: at the
# size of the labels both have the same logits, so that the weights add up to 1.4.
LOSS_WEIGHTS = {"tramac": (1.0, 0.4, 0.4), "gluon": (1.4, 0.4, 1.0)}


class CascadeFusion(nn.Module):
    """Cascade fusion: the sum of an upsampled coarse map and a fine one, and auxiliary logits of the coarse one."""

    num_classes: int
    aux: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, low: Array, high: Array) -> tuple[Array, Array | None]:
        """Returns the fused map (b, h, w, 128) of low (b, h', w', c') and high (b, h, w, c), and auxiliary logits.

        The auxiliary logits are (b, h, w, k), or None without `aux`.
        """
        low = resize(low, high.shape[1:3], align_corners=True)
        low = self.norm(name="conv_low.1")(self.conv(128, 3, dilation=2, name="conv_low.0")(low))
        high = self.norm(name="conv_high.1")(self.conv(128, 1, name="conv_high.0")(high))
        logits = self.conv(self.num_classes, 1, name="conv_low_cls")(low) if self.aux else None
        return relu(low + high), logits


class ICNet(ImageNetwork):
    """ICNet: images (b, h, w, 3), normalised -> SegOutput.

    depth: depth of the ResNet, 50 or 101.
    form: "tramac" or "gluon", see above.
    aux: with auxiliary logits "aux8" and "aux16", at 1/8 and 1/16 of the input size.
    dropout: rate after the pyramid of the gluon form; the tramac form has no dropout.
    """

    depth: int = 50
    form: Literal["tramac", "gluon"] = "tramac"
    aux: bool = True
    dropout: float = 0.1

    @property
    def remat_segments(self) -> tuple[str, ...]:
        """Returns the segments of the network; the pyramid of the tramac form has no layers."""
        return ("block", "stem", "up", *(["spp"] if self.form == "gluon" else []))

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        find_form("ICNet", self.form, LOSS_WEIGHTS)
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        trunk = ResNet(
            self.depth, partial(conv, kernel_init=kaiming_fan_out), norm, 8, stem_names=DEEP_STEM,
            remat=self.recomputed, name="pretrained",
        )  # fmt: skip

        def high_resolution(net: ICNet, fine: Array) -> Array:
            for i, width in enumerate((32, 32, 64)):
                fine = conv(width, 3, 2, name=f"conv_sub1.{i}.conv")(fine)
                fine = relu(norm(name=f"conv_sub1.{i}.bn")(fine))
            return fine

        fine = rematerialised(high_resolution, self.recomputed, "stem")(self, images.astype(dtype))
        if self.form == "gluon":
            drop = partial(Dropout, self.dropout, train=train)
            medium, coarse, maps = self._gluon_branches(trunk, images.astype(dtype), conv, norm, drop)
        else:
            medium = trunk.stages(self._shrunk(images, 2).astype(dtype))["layer2"]
            maps = trunk.stages(self._shrunk(images, 4).astype(dtype))
            coarse = maps["layer4"] + sum(pyramid(maps["layer4"], BINS, lambda i, means: means)[1:])
        features = maps | {"sub1": fine, "ppm": coarse}

        fusion = partial(rematerialised(CascadeFusion, self.recomputed, "up"), self.num_classes, self.aux, conv, norm)
        x, aux16 = fusion(name="head.cff_24")(coarse, medium)
        features["cff24"] = x
        x, aux8 = fusion(name="head.cff_12")(x, fine)
        features["cff12"] = x
        h, w = images.shape[1:3]
        x = resize(x, (-(-h // 4), -(-w // 4)), align_corners=True)
        heads = {"logits": conv(self.num_classes, 1, name="head.conv_cls")(x)}
        wide = jnp.promote_types(dtype, jnp.float32)
        aux = {"aux8": aux8.astype(wide), "aux16": aux16.astype(wide)} if self.aux else {}
        return seg_output(heads, features, (h, w), align_corners=True, aux=aux)

    @staticmethod
    def _shrunk(x: Array, factor: int) -> Array:
        """Returns x resized bilinearly, without a filter, to 1/factor of its size, rounded down."""
        return resize(x, tuple(max(1, n // factor) for n in x.shape[1:3]), align_corners=True)

    def _gluon_branches(
        self, trunk: ResNet, images: Array, conv: ModuleDef, norm: ModuleDef, drop: ModuleDef
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Returns the medium (b, h/16, w/16, 256) and the coarse branch (b, h/32, w/32, 256), and the trunk's maps."""

        def shrink(stage: str, x: Array) -> Array:
            return self._shrunk(x, 2) if stage == "layer2" else x

        maps = trunk.stages(self._shrunk(images, 2), between=shrink)
        levels = tuple((f"psp.conv{i}.0", f"psp.conv{i}.1") for i in range(1, 5))

        def context(net: ICNet, x: Array) -> Array:
            x = PyramidPooling(levels, conv, norm, name="head_sub4")(x)
            x = relu(norm(name="head_sub4.conv.1")(conv(512, 3, name="head_sub4.conv.0")(x)))
            x = drop(name="head_sub4.conv.3")(x)
            return relu(norm(name="conv_sub4.1")(conv(256, 1, name="conv_sub4.0")(x)))

        coarse = rematerialised(context, self.recomputed, "spp")(self, maps["layer4"])
        medium = relu(norm(name="conv_sub2.1")(conv(256, 1, name="conv_sub2.0")(maps["layer2"])))
        return medium, coarse, maps

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output (ICNetLoss of Tramac and of GluonCV)."""
        full, at8, at16 = find_form("ICNet", self.form, LOSS_WEIGHTS)
        return {"logits": full, "aux8": at8, "aux16": at16} if self.aux else {"logits": full}


icnet_r50 = partial(ICNet, depth=50)
