"""BiSeNet (Yu et al., ECCV 2018) on ResNet-18, in two forms: the authors' (TorchSeg) and CoinCheung's.

A spatial path keeps 1/8 of the resolution, a ResNet extracts the context, and attention refines and fuses both. The
forms differ in tensor names, widths of the heads, the attention of the fusion, and upsampling. See `Form`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.backbones.resnet import ResNet
from segjax.models.blocks import ConvNormReLU
from segjax.models.checks import check_images
from segjax.models.heads import find_form, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_in, norm_of_means, relu
from segjax.models.remat import rematerialised
from segjax.models.trunks import find_trunk
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]


@dataclass(frozen=True)
class Form:
    """Differences between the published forms: names of the tensors, and a few layers.

    trunk: prefix of the ResNet.
    spatial: names of the four blocks of the spatial path.
    context: name of the block on the image's means.
    arms: names of the attention refinements, strides 32 and 16.
    arm_conv, arm_attention: names of their first block, and of convolution and norm of the attention.
    refines: names of the 3x3 blocks after upsampling to strides 16 and 8.
    fusion, fusion_attention, fusion_norm: names of the fusing block, of the 1x1 convolutions of its attention (ReLU
        between them), and of the norm after them, None for none.
    heads: name of the output -> (name of the head, its width, stride of its input; 0 for the fused map).
    head_layers: names of block and classifier of each head.
    method, align_corners: of upsampling in the context path; align_corners also of the logits.
    multiple: accepted image sides are multiples of this; others are padded at the bottom and right, the logits cropped.
    """

    trunk: str
    spatial: tuple[str, str, str, str]
    context: str
    arms: tuple[str, str]
    arm_conv: str
    arm_attention: tuple[str, str]
    refines: tuple[str, str]
    fusion: str
    fusion_attention: tuple[str, ...]
    fusion_norm: str | None
    heads: dict[str, tuple[str, int, int]]
    head_layers: tuple[str, str]
    method: Literal["bilinear", "nearest"]
    align_corners: bool
    multiple: int = 1


AUTHORS = Form(
    trunk="context_path",
    spatial=tuple(f"spatial_path.{name}" for name in ("conv_7x7", "conv_3x3_1", "conv_3x3_2", "conv_1x1")),
    context="global_context.1",
    arms=("arms.0", "arms.1"),
    arm_conv="conv_3x3",
    arm_attention=("channel_attention.1.conv", "channel_attention.1.bn"),
    refines=("refines.0", "refines.1"),
    fusion="ffm.conv_1x1",
    fusion_attention=("ffm.channel_attention.1.conv", "ffm.channel_attention.2.conv"),
    fusion_norm=None,
    heads={"logits": ("heads.2", 64, 0), "aux16": ("heads.0", 256, 16), "aux8": ("heads.1", 256, 8)},
    head_layers=("conv_3x3", "conv_1x1"),
    method="bilinear",
    align_corners=True,
)
COINCHEUNG = Form(
    trunk="cp.resnet",
    spatial=tuple(f"sp.{name}" for name in ("conv1", "conv2", "conv3", "conv_out")),
    context="cp.conv_avg",
    arms=("cp.arm32", "cp.arm16"),
    arm_conv="conv",
    arm_attention=("conv_atten", "bn_atten"),
    refines=("cp.conv_head32", "cp.conv_head16"),
    fusion="ffm.convblk",
    fusion_attention=("ffm.conv",),
    fusion_norm="ffm.bn",
    heads={"logits": ("conv_out", 256, 0), "aux16": ("conv_out16", 64, 8), "aux32": ("conv_out32", 64, 16)},
    head_layers=("conv", "conv_out"),
    method="nearest",
    align_corners=False,
    multiple=32,
)
FORMS = {"authors": AUTHORS, "coincheung": COINCHEUNG}


class AttentionRefinement(nn.Module):
    """Attention refinement: 3x3 convolution to 128 channels, each scaled by a sigmoid of the image's means."""

    form: Form
    conv: ModuleDef
    norm: ModuleDef
    image_norm: ModuleDef  # for one value per image

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, 128)."""
        x = ConvNormReLU(128, self.conv, self.norm, name=self.form.arm_conv)(x)
        conv, norm = self.form.arm_attention
        means = self.conv(128, 1, name=conv)(x.mean((1, 2), keepdims=True))
        return x * jax.nn.sigmoid(self.image_norm(name=norm)(means))


class BiSeNet(ImageNetwork):
    """BiSeNet: images (b, h, w, 3), normalised -> SegOutput; all logits at the size of the images.

    form: "authors" (ycszen/TorchSeg; aux16, aux8) or "coincheung" (CoinCheung/BiSeNet; aux16, aux32).
    depth: depth of the ResNet, 18 or 34 as published.
    trunk: a key of `trunks.LIGHT` that replaces the ResNet.
    aux: with the auxiliary heads, whose losses weigh as much as that of the main head.
    dropout: rate before the classifiers; 0 as published.

    Features of the output: "spatial", "layer3", "refine0", "refine1", "ffm", and "low.NAME" of each head (the authors'
    "speed" setting trains and evaluates at 1/8). Norms of one value per image: see `norm_of_means`.
    """

    form: str = "authors"
    depth: int = 18
    trunk: str | None = None
    aux: bool = True
    dropout: float = 0.0

    remat_segments = ("block", "stem", "up", "head")

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output.

        All are 1, each with OHEM (TorchSeg's BiSeNet, CoinCheung's training script).
        """
        return {name: 1.0 for name in self._form().heads if self.aux or name == "logits"}

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        form, dtype = self._form(), jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train, kaiming_fan_in)
        image_norm = norm_of_means(norm, images.shape[0])
        block = partial(rematerialised(ConvNormReLU, self.recomputed), conv=conv, norm=norm)
        refinement = rematerialised(AttentionRefinement, self.recomputed, "up")

        size = images.shape[1:3]
        short = [(0, -n % form.multiple) for n in size]
        x = jnp.pad(images, ((0, 0), *short, (0, 0))).astype(dtype)

        y = x
        for name, layer in zip(form.spatial, ((64, 7, 2), (64, 3, 2), (64, 3, 2), (128, 1, 1))):
            width, kernel_size, stride = layer
            y = block(width, kernel_size=kernel_size, stride=stride, name=name)(y)
        spatial = y  # b h/8 w/8 128

        resnet = partial(ResNet, self.depth, name=form.trunk)
        maps = find_trunk(self.trunk, resnet, conv=conv, norm=norm, output_stride=32, remat=self.recomputed)(x)
        y = maps[32].mean((1, 2), keepdims=True)
        y = ConvNormReLU(128, conv, image_norm, kernel_size=1, name=form.context)(y)
        context = {}
        for stride, below, arm, refine in zip((32, 16), (maps[16], spatial), form.arms, form.refines):
            # the first y is one pixel: every method of upsampling fills the map with it
            y = jnp.broadcast_to(y, (*maps[stride].shape[:3], 128)) if stride == 32 else y
            y = refinement(form, conv, norm, image_norm, name=arm)(maps[stride]) + y
            y = context[stride // 2] = block(128, name=refine)(self._grow(y, below.shape[1:3], form))

        # inside another segment, nothing is recomputed twice
        inner = partial(ConvNormReLU, conv=conv, norm=norm)

        def fuse(net: BiSeNet, spatial: Array, context: Array) -> Array:
            convolve = inner if "up" in net.recomputed else block
            y = fused = convolve(256, kernel_size=1, name=form.fusion)(jnp.concatenate([spatial, context], -1))
            y = y.mean((1, 2), keepdims=True)
            for i, name in enumerate(form.fusion_attention):
                y = conv(256, 1, name=name)(relu(y) if i else y)
            y = image_norm(name=form.fusion_norm)(y) if form.fusion_norm else y
            return fused + fused * jax.nn.sigmoid(y)

        def classify(net: BiSeNet, y: Array, head: str, width: int) -> Array:
            convolve = inner if "head" in net.recomputed else block
            y = convolve(width, name=f"{head}.{form.head_layers[0]}")(y)
            y = Dropout(net.dropout, train=train, name=f"{head}.drop")(y)
            return conv(net.num_classes, 1, use_bias=True, name=f"{head}.{form.head_layers[1]}")(y)

        fused = rematerialised(fuse, self.recomputed, "up")(self, spatial, context[8])
        heads = {}
        for output, (head, width, stride) in form.heads.items():
            if output in self.loss_weights:
                classifier = rematerialised(partial(classify, head=head, width=width), self.recomputed, "head")
                heads[output] = classifier(self, context[stride] if stride else fused)
        features = {"spatial": spatial, "layer3": maps[16], "refine0": context[16], "refine1": context[8], "ffm": fused}
        return seg_output(heads, features, size, align_corners=form.align_corners, padded=x.shape[1:3])

    def _form(self) -> Form:
        return find_form("BiSeNet", self.form, FORMS)

    @staticmethod
    def _grow(x: Array, size: tuple[int, int], form: Form) -> Array:
        if form.method == "nearest":
            return resize(x, size, method="nearest")
        return resize(x, size, align_corners=form.align_corners)


bisenet_r18 = partial(BiSeNet, form="authors")
bisenet_r18_coincheung = partial(BiSeNet, form="coincheung")
