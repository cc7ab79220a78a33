"""Fast-SCNN (Poudel et al., BMVC 2019): 1.1 M parameters, 6.7 G multiply-adds at 1024x2048.

Layer table and tensor names of Tramac/Fast-SCNN-pytorch. It differs from the paper in two places: the first
convolution has no padding, and the fusion's depthwise convolution no dilation (the paper's is `fusion_dilation=4`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.blocks import SeparableConv, pyramid
from segjax.models.checks import check_images
from segjax.models.heads import seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, relu
from segjax.models.remat import rematerialised
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]


class InvertedResidual(nn.Module):
    """Inverted residual (MobileNetV2) with ReLU: expand, depthwise 3x3, project; a shortcut if the shapes agree."""

    features: int
    conv: ModuleDef
    norm: ModuleDef
    stride: int = 1
    expansion: int = 6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h / stride, w / stride, features)."""
        c = x.shape[-1] * self.expansion
        y = self.conv(c, 1, name="block.0.conv.0")(x)
        y = relu(self.norm(name="block.0.conv.1")(y))
        y = self.conv(c, 3, self.stride, groups=c, name="block.1.conv.0")(y)
        y = relu(self.norm(name="block.1.conv.1")(y))
        y = self.conv(self.features, 1, name="block.2")(y)
        y = self.norm(name="block.3")(y)
        return x + y if x.shape == y.shape else y


class PyramidPooling(nn.Module):
    """Pyramid pooling (PSPNet): means over 1, 2, 3 and 6 bins per side, projected, upsampled, appended, fused."""

    features: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to (b, h, w, features)."""

        def project(i: int, means: Array) -> Array:
            y = self.conv(x.shape[-1] // 4, 1, name=f"conv{i + 1}.conv.0")(means)
            return relu(self.norm(name=f"conv{i + 1}.conv.1")(y))

        y = self.conv(self.features, 1, name="out.conv.0")(jnp.concatenate(pyramid(x, (1, 2, 3, 6), project), -1))
        return relu(self.norm(name="out.conv.1")(y))


class FeatureFusion(nn.Module):
    """Fusion: the sum of high-resolution features and upsampled context, both projected."""

    features: int
    conv: ModuleDef
    norm: ModuleDef
    dilation: int

    @nn.compact
    def __call__(self, high: Array, low: Array) -> Array:
        """Maps high (b, h, w, c) and low (b, h', w', c') to (b, h, w, features)."""
        low = resize(low, high.shape[1:3], align_corners=True)
        low = self.conv(low.shape[-1], 3, dilation=self.dilation, groups=low.shape[-1], name="dwconv.conv.0")(low)
        low = relu(self.norm(name="dwconv.conv.1")(low))
        low = self.conv(self.features, 1, use_bias=True, name="conv_lower_res.0")(low)
        low = self.norm(name="conv_lower_res.1")(low)
        high = self.conv(self.features, 1, use_bias=True, name="conv_higher_res.0")(high)
        return relu(low + self.norm(name="conv_higher_res.1")(high))


class FastSCNN(ImageNetwork):
    """Fast-SCNN: images (b, h, w, 3), normalised -> SegOutput; with `aux`, also auxiliary logits "aux" at input size.

    aux_channels: width of the auxiliary head on the 1/8 features (Tramac 32, GluonCV 64).
    fusion_dilation: dilation of the fusion's depthwise convolution (1 in the published ports, 4 in the paper).
    stem_padding: padding of the first convolution (0 in the published ports, 1 for a size of exactly 1/8).
    dropout: rate before both classifiers.
    """

    aux: bool = False
    aux_channels: int = 32
    fusion_dilation: int = 1
    stem_padding: int = 0
    dropout: float = 0.1

    remat_segments = ("block", "stem", "spp", "up", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images, smallest=3 - 2 * self.stem_padding)
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        drop = partial(Dropout, self.dropout, train=train)
        remat = self.recomputed
        separable = partial(rematerialised(SeparableConv, remat), conv=conv, norm=norm)
        residual = partial(rematerialised(InvertedResidual, remat), conv=conv, norm=norm)

        name = "learning_to_downsample"

        def stem(net: FastSCNN, images: Array) -> Array:
            x = conv(32, 3, 2, net.stem_padding, name="learning_to_downsample.conv.conv.0")(images.astype(dtype))
            return relu(norm(name="learning_to_downsample.conv.conv.1")(x))

        x = rematerialised(stem, remat, "stem")(self, images)
        x = separable(48, stride=2, name=f"{name}.dsconv1")(x)
        high = separable(64, stride=2, name=f"{name}.dsconv2")(x)  # b h/8 w/8 64

        features = {"ltd": high}
        x, name = high, "global_feature_extractor"
        for stage, (width, stride) in enumerate(((64, 2), (96, 2), (128, 1)), start=1):
            for i in range(3):
                x = residual(width, stride=stride if i == 0 else 1, name=f"{name}.bottleneck{stage}.{i}")(x)
            features[f"bottleneck{stage}"] = x
        pooling, fusion = rematerialised(PyramidPooling, remat, "spp"), rematerialised(FeatureFusion, remat, "up")
        x = features["gfe"] = pooling(128, conv, norm, name=f"{name}.ppm")(x)  # b h/32 w/32 128

        x = fusion(128, conv, norm, self.fusion_dilation, name="feature_fusion")(high, x)
        features["ffm"] = x  # b h/8 w/8 128
        x = separable(128, name="classifier.dsconv1")(x)
        x = separable(128, name="classifier.dsconv2")(x)
        x = drop(name="classifier.conv.0")(x)
        heads = {"logits": conv(self.num_classes, 1, use_bias=True, name="classifier.conv.1")(x)}

        def aux(net: FastSCNN, y: Array) -> Array:
            y = conv(net.aux_channels, 3, name="auxlayer.0")(y)
            y = drop(name="auxlayer.3")(relu(norm(name="auxlayer.1")(y)))
            return conv(net.num_classes, 1, use_bias=True, name="auxlayer.4")(y)

        if self.aux:
            heads["aux"] = rematerialised(aux, remat, "head")(self, high)
        return seg_output(heads, features, images.shape[1:3], align_corners=True)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output (Tramac/Fast-SCNN-pytorch)."""
        return {"logits": 1.0, "aux": 0.4} if self.aux else {"logits": 1.0}
