"""ICNet (Zhao et al., ECCV 2018): the deeper the layer, the smaller the image it sees; three branches are cascaded.

tramac: the port of Tramac/awesome-semantic-segmentation-pytorch. The coarse branch is a trunk of its own on the image
    at 1/4, with a pyramid pooling that adds. The medium branch, at 1/2, runs the whole trunk while training, as there:
    its layer3 and layer4 only move the running statistics.
gluon: GluonCV's. The coarse branch goes on from the medium branch's layer2, with PSPNet's pyramid; 47 M parameters.

Both use a deep-stem ResNet at stride 8 with torchvision's dilation rule and align_corners=True. The authors' Caffe
release halves the width of every layer, has loss weights 1, 0.4 and 0.16 at 1/4, 1/8 and 1/16, and is not built here.
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
from segjax.models.layers import Dropout, conv_and_norm, kaiming_fan_out, relu
from segjax.models.pspnet import BINS, PyramidPooling
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]
# of the outputs at full size, 1/8 and 1/16. GluonCV's loss has terms at full size, 1.0, and at 1/4, 0.4; brought to the
# size of the labels the two are the same logits
LOSS_WEIGHTS = {"tramac": (1.0, 0.4, 0.4), "gluon": (1.4, 0.4, 1.0)}


class CascadeFusion(nn.Module):
    """Adds a coarse map, upsampled, to a fine one; the auxiliary classifier sees the coarse one before the sum."""

    num_classes: int
    aux: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, low: Array, high: Array) -> tuple[Array, Array | None]:
        """low (b, h', w', c'), high (b, h, w, c) -> fused (b, h, w, 128), auxiliary logits (b, h, w, k) or None."""
        low = resize(low, high.shape[1:3], align_corners=True)
        low = self.norm(name="conv_low.1")(self.conv(128, 3, dilation=2, name="conv_low.0")(low))
        high = self.norm(name="conv_high.1")(self.conv(128, 1, name="conv_high.0")(high))
        logits = self.conv(self.num_classes, 1, name="conv_low_cls")(low) if self.aux else None
        return relu(low + high), logits


class ICNet(nn.Module):
    """ICNet. Call: images (b, h, w, 3) normalised -> SegOutput.

    aux: auxiliary logits "aux8" and "aux16", at 1/8 and 1/16 of the input size.
    depth: of the ResNet, 50 or 101.
    form: "tramac" or "gluon", see above.
    dropout: after the pyramid of the gluon form; the other has none.
    """

    num_classes: int
    depth: int = 50
    form: Literal["tramac", "gluon"] = "tramac"
    aux: bool = True
    dropout: float = 0.1
    dtype: str = "float32"
    bn_momentum: float = 0.1
    bn_eps: float = 1e-5
    remat: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """images: (b, h, w, 3) float, normalised. train: batch statistics and dropout."""
        check_images(images)
        find_form("ICNet", self.form, LOSS_WEIGHTS)
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        trunk = ResNet(
            self.depth, partial(conv, kernel_init=kaiming_fan_out), norm, 8, stem_names=DEEP_STEM, remat=self.remat,
            name="pretrained",
        )  # fmt: skip

        fine = images.astype(dtype)
        for i, width in enumerate((32, 32, 64)):
            fine = conv(width, 3, 2, name=f"conv_sub1.{i}.conv")(fine)
            fine = relu(norm(name=f"conv_sub1.{i}.bn")(fine))
        if self.form == "gluon":
            drop = partial(Dropout, self.dropout, train=train)
            medium, coarse, maps = self._gluon_branches(trunk, images.astype(dtype), conv, norm, drop)
        else:
            medium = trunk.stages(self._shrunk(images, 2).astype(dtype))["layer2"]
            maps = trunk.stages(self._shrunk(images, 4).astype(dtype))
            coarse = maps["layer4"] + sum(pyramid(maps["layer4"], BINS, lambda i, means: means)[1:])
        features = maps | {"sub1": fine, "ppm": coarse}

        fusion = partial(CascadeFusion, self.num_classes, self.aux, conv, norm)
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
        """Bilinear, without filter, to 1/factor of the size rounded down."""
        return resize(x, tuple(max(1, n // factor) for n in x.shape[1:3]), align_corners=True)

    def _gluon_branches(
        self, trunk: ResNet, images: Array, conv: ModuleDef, norm: ModuleDef, drop: ModuleDef
    ) -> tuple[Array, Array, dict[str, Array]]:
        """(medium (b, h/16, w/16, 256), coarse (b, h/32, w/32, 256), maps of the trunk)."""

        def shrink(stage: str, x: Array) -> Array:
            return self._shrunk(x, 2) if stage == "layer2" else x

        maps = trunk.stages(self._shrunk(images, 2), between=shrink)
        levels = tuple((f"psp.conv{i}.0", f"psp.conv{i}.1") for i in range(1, 5))
        x = PyramidPooling(levels, conv, norm, name="head_sub4")(maps["layer4"])
        x = relu(norm(name="head_sub4.conv.1")(conv(512, 3, name="head_sub4.conv.0")(x)))
        x = drop(name="head_sub4.conv.3")(x)
        coarse = relu(norm(name="conv_sub4.1")(conv(256, 1, name="conv_sub4.0")(x)))
        medium = relu(norm(name="conv_sub2.1")(conv(256, 1, name="conv_sub2.0")(maps["layer2"])))
        return medium, coarse, maps

    @property
    def loss_weights(self) -> dict[str, float]:
        """Published weight of the loss on each output (Tramac's ICNetLoss, GluonCV's ICNetLoss)."""
        full, at8, at16 = find_form("ICNet", self.form, LOSS_WEIGHTS)
        return {"logits": full, "aux8": at8, "aux16": at16} if self.aux else {"logits": full}


icnet_r50 = partial(ICNet, depth=50)
