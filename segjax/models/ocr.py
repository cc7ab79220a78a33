"""OCR, object-contextual representations (Yuan et al., ECCV 2020), on HRNetV2.

Each pixel attends to one feature per class: the mean over the pixels that a coarse prediction assigns to the class.
Layer table and tensor names of HRNet/HRNet-Semantic-Segmentation, branch HRNet-OCR.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from segjax.models.backbones.hrnet import HRNet
from segjax.models.checks import check_images
from segjax.models.heads import seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out, relu
from segjax.models.remat import rematerialised
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]


def gather_regions(x: Array, logits: Array) -> Array:
    """Returns the feature of each class, (b, k, c): means of x (b, h, w, c) weighted by shares of the class.

    The shares are the softmax of the logits (b, h, w, k) over the PIXELS of an image. The result has x's type.
    """
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    share = jax.nn.softmax(rearrange(logits, "b h w k -> b (h w) k").astype(wide), axis=1)
    x = rearrange(x, "b h w c -> b (h w) c")
    return jnp.einsum("bnk,bnc->bkc", share, x.astype(wide), precision=jax.lax.Precision.HIGHEST).astype(x.dtype)


class ObjectAttention(nn.Module):
    """Attention from the pixels to the regions: queries of the pixels, keys and values of the regions."""

    key_channels: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: Array, regions: Array) -> Array:
        """Maps x (b, h, w, c) and regions (b, k, c) to the context (b, h, w, c)."""
        _, h, w, c = x.shape
        regions = regions[:, :, None]
        key = self._project(regions, self.key_channels, "f_object", 2)[:, :, 0]
        value = self._project(regions, self.key_channels, "f_down", 1)[:, :, 0]
        query = rearrange(self._project(x, self.key_channels, "f_pixel", 2), "b h w c -> b (h w) c")
        wide = jnp.promote_types(x.dtype, jnp.float32)
        similarity = jnp.einsum("bnc,bkc->bnk", query, key, preferred_element_type=wide)
        share = jax.nn.softmax(similarity * self.key_channels**-0.5, axis=-1).astype(x.dtype)
        context = jnp.einsum("bnk,bkc->bnc", share, value)
        return self._project(rearrange(context, "b (h w) c -> b h w c", h=h, w=w), c, "f_up", 1)

    def _project(self, x: Array, channels: int, name: str, layers: int) -> Array:
        for i in range(0, 2 * layers, 2):
            x = relu(self.norm(name=f"{name}.{i + 1}.0")(self.conv(channels, 1, name=f"{name}.{i}")(x)))
        return x


class HRNetOCR(ImageNetwork):
    """HRNetV2 with OCR: images (b, h, w, 3), normalised -> SegOutput.

    width: width of the HRNet, 18, 32 or 48.
    aux: return the coarse prediction, which the network computes in any case, as auxiliary logits "aux" at input size.
    ocr_channels, key_channels: widths of the pixel and region features, and inside the attention.
    align_corners: of all upsampling.
    dropout: rate of whole channels before the classifier.
    """

    width: int = 48
    aux: bool = True
    ocr_channels: int = 512
    key_channels: int = 256
    align_corners: bool = True
    dropout: float = 0.05
    unit_names = ()  # the last stage has parallel branches, and no last units

    remat_segments = ("block", "stem", "up", "spp", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        trunk = HRNet(self.width, partial(conv, kernel_init=kaiming_fan_out), norm, self.align_corners, self.recomputed)
        nn.share_scope(self, trunk)
        maps = trunk.stages(images.astype(dtype))
        size = maps["stage4.0"].shape[1:3]
        x = jnp.concatenate([resize(maps[f"stage4.{i}"], size, align_corners=self.align_corners) for i in range(4)], -1)

        def coarse_head(net: HRNetOCR, x: Array) -> Array:
            x = conv(x.shape[-1], 1, use_bias=True, name="aux_head.0")(x)
            x = relu(norm(name="aux_head.1")(x))
            return conv(net.num_classes, 1, use_bias=True, name="aux_head.3")(x)

        def context(net: HRNetOCR, x: Array, coarse: Array) -> tuple[Array, Array, Array]:
            x = conv(net.ocr_channels, 3, use_bias=True, name="conv3x3_ocr.0")(x)
            x = pixels = relu(norm(name="conv3x3_ocr.1")(x))
            regions = gather_regions(x, coarse)
            attention = ObjectAttention(net.key_channels, conv, norm, name="ocr_distri_head.object_context_block")
            x = jnp.concatenate([attention(x, regions), x], -1)
            x = conv(net.ocr_channels, 1, name="ocr_distri_head.conv_bn_dropout.0")(x)
            x = relu(norm(name="ocr_distri_head.conv_bn_dropout.1.0")(x))
            x = Dropout(net.dropout, train=train, channels=True, name="ocr_distri_head.conv_bn_dropout.2")(x)
            return pixels, regions, x

        coarse = rematerialised(coarse_head, self.recomputed, "head")(self, x)
        pixels, regions, x = rematerialised(context, self.recomputed, "spp")(self, x, coarse)
        features = maps | {"ocr3x3": pixels, "gather": regions[:, :, None], "distri": x}
        heads = {"logits": conv(self.num_classes, 1, use_bias=True, name="cls_head")(x)}
        if self.aux:
            heads["aux"] = coarse
        return seg_output(heads, features, images.shape[1:3], align_corners=self.align_corners)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output (HRNet-OCR's Cityscapes configurations)."""
        return {"logits": 1.0, "aux": 0.4} if self.aux else {"logits": 1.0}


hrnet_w18_ocr = partial(HRNetOCR, width=18)
hrnet_w48_ocr = partial(HRNetOCR, width=48)
