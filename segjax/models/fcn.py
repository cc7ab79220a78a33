"""FCN (Long et al., CVPR 2015) on a dilated ResNet, in torchvision's form: no decoder, one 3x3 convolution."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.backbones.resnet import ResNet
from segjax.models.checks import check_images
from segjax.models.heads import FCNHead, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out
from segjax.models.remat import rematerialised
from segjax.models.trunks import find_trunk
from segjax.typing import Array, SegOutput


class FCN(ImageNetwork):
    """FCN: images (b, h, w, 3), normalised -> SegOutput; with `aux`, also auxiliary logits "aux" at input size.

    depth: depth of the ResNet, 50 or 101.
    trunk: a key of `trunks.LIGHT` that replaces the ResNet.
    output_stride: 8 as published, 16 or 32.
    dropout: rate before both classifiers.
    """

    depth: int = 101
    trunk: str | None = None
    aux: bool = True
    output_stride: int = 8
    dropout: float = 0.1

    remat_segments = ("block", "stem", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        trunk = find_trunk(
            self.trunk, partial(ResNet, self.depth, name="backbone"), conv=partial(conv, kernel_init=kaiming_fan_out),
            norm=norm, output_stride=self.output_stride, remat=self.recomputed,
        )  # fmt: skip
        maps = trunk.stages(images.astype(dtype))
        drop = partial(Dropout, self.dropout, train=train)
        head = partial(rematerialised(FCNHead, self.recomputed, "head"), self.num_classes, conv, norm, drop)
        heads = {"logits": head(name="classifier")(maps["layer4"])}
        if self.aux:
            heads["aux"] = head(name="aux_classifier")(maps["layer3"])
        return seg_output(heads, maps, images.shape[1:3], align_corners=False)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output (torchvision's segmentation references)."""
        return {"logits": 1.0, "aux": 0.5} if self.aux else {"logits": 1.0}


fcn_r50 = partial(FCN, depth=50)
fcn_r101 = partial(FCN, depth=101)
