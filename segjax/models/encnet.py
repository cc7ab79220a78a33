"""EncNet (Zhang et al., CVPR 2018): channel weights from a learned dictionary, and a loss on which classes are present.

Layer table of PyTorch-Encoding, tensor names of Tramac's port. The trunk is a deep-stem ResNet at stride 8 with
torchvision's dilation rule; upsampling is bilinear with align_corners=True.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from segjax.models.backbones.resnet import DEEP_STEM, ResNet
from segjax.models.checks import check_images
from segjax.models.heads import FCNHead, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_out, relu, torch_default
from segjax.models.remat import rematerialised
from segjax.models.trunks import find_trunk
from segjax.ops import resize
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]


@jax.custom_vjp
def squared_distances(x: Array, codewords: Array) -> Array:
    """Returns |x_i - c_k|^2, (b, n, k), of x (b, n, d) and codewords (k, d).

    XLA fuses differences and sum into one reduction, so that no array (b, n, k, d) exists. The expansion
    |x|^2 - 2 x c + |c|^2 would lose digits that the softmax of the distances requires.
    """
    return jnp.sum(jnp.square(x[:, :, None] - codewords), axis=-1)


def _distances_forward(x, codewords):
    return squared_distances(x, codewords), (x, codewords)


def _distances_backward(residuals, g):
    x, codewords = residuals
    product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    x_grad = x * g.sum(-1, keepdims=True) - product("bnk,kd->bnd", g, codewords)
    c_grad = codewords * g.sum((0, 1))[:, None] - product("bnk,bnd->kd", g, x)
    return 2 * x_grad, 2 * c_grad


squared_distances.defvjp(_distances_forward, _distances_backward)


class Encoding(nn.Module):
    """Encoding layer: residuals to each codeword, softly assigned and summed over the pixels, as a vector per image.

    Norm, ReLU and the mean over the codewords follow the sum. The norm has one mean and variance per codeword.
    Leaves besides the layers': 3.codewords (k, d), 3.scale (k,).

    codewords: number of codewords k.
    square_scale: assign pixels by softmax(scale^2 distance^2); if False, by softmax(scale distance^2).
    """

    conv: ModuleDef
    norm: ModuleDef
    codewords: int = 32
    square_scale: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, d) to (b, d)."""
        d, k = x.shape[-1], self.codewords
        x = relu(self.norm(name="1")(self.conv(d, 1, name="0")(x)))
        bound = (k * d) ** -0.5
        codewords = self.param("3.codewords", _uniform(-bound, bound), (k, d), jnp.float32)
        scale = self.param("3.scale", _uniform(-1, 0), (k,), jnp.float32)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        x, codewords, scale = (y.astype(wide) for y in (rearrange(x, "b h w d -> b (h w) d"), codewords, scale))
        factor = jnp.square(scale) if self.square_scale else scale
        share = jax.nn.softmax(factor * squared_distances(x, codewords), axis=-1)  # b n k
        pixels = jnp.einsum("bnk,bnd->bdk", share, x, precision=jax.lax.Precision.HIGHEST)
        residuals = pixels - share.sum(1)[:, None] * codewords.T
        return relu(self.norm(name="4")(residuals)).mean(-1)


def _uniform(low: float, high: float) -> Callable[..., Array]:
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, low, high)


class Linear(nn.Module):
    """Linear layer with the semantics of torch.nn.Linear. Leaves, float32: kernel (c, features), bias (features,)."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, c) to (b, features)."""
        c = x.shape[-1]
        kernel = self.param("kernel", torch_default, (c, self.features), jnp.float32)
        bias = self.param("bias", _uniform(-(c**-0.5), c**-0.5), (self.features,), jnp.float32)
        return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)


class EncNet(ImageNetwork):
    """EncNet: images (b, h, w, 3), normalised -> SegOutput.

    depth: depth of the ResNet, 50 or 101.
    trunk: a key of `trunks.LIGHT` that replaces the ResNet.
    lateral: fuse layer2 and layer3 into the encoded features (published for VOC and Pascal Context).
    aux: with two auxiliary outputs: "se" (b, k), logits of the presence of each class in the image, for the loss
        `presence_cross_entropy`; and "aux", the logits of an FCN head on layer3, at input size.
    output_stride: 8 as published, 16 or 32.
    codewords: size of the dictionary.
    square_scale: rule of the assignment of pixels to codewords, see `Encoding`. True in Tramac's port, whose published
        outputs this network reproduces; False in PyTorch-Encoding and the paper, whose scales are negative.
    dropout: rate before both classifiers.
    """

    depth: int = 101
    trunk: str | None = None
    lateral: bool = False
    aux: bool = True
    output_stride: int = 8
    codewords: int = 32
    square_scale: bool = True
    dropout: float = 0.1

    remat_segments = ("block", "stem", "spp", "head")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images)
        dtype = jnp.dtype(self.dtype)
        conv, norm = conv_and_norm(self, train)
        drop = partial(Dropout, self.dropout, train=train)

        trunk = find_trunk(
            self.trunk, partial(ResNet, self.depth, stem_names=DEEP_STEM, name="pretrained"),
            conv=partial(conv, kernel_init=kaiming_fan_out), norm=norm, output_stride=self.output_stride,
            remat=self.recomputed,
        )  # fmt: skip
        maps = trunk.stages(images.astype(dtype))
        # the vectors per image stay float32 in half precision: one of their numbers scales a whole map
        wide = jnp.promote_types(dtype, jnp.float32)

        def context(net: EncNet, maps: dict[str, Array]) -> tuple[Array, Array, Array]:
            x = conv5 = relu(norm(name="head.conv5.1")(conv(512, 3, name="head.conv5.0")(maps["layer4"])))
            if net.lateral:
                x = net._fuse(x, maps, conv, norm)
            encoding = Encoding(
                conv, partial(norm, dtype=wide), net.codewords, net.square_scale, name="head.encmodule.encoding"
            )(x)
            gamma = jax.nn.sigmoid(Linear(512, wide, name="head.encmodule.fc.0")(encoding))
            return conv5, encoding, relu(x + x * gamma[:, None, None].astype(dtype))

        read = {name: maps[name] for name in ("layer2", "layer3", "layer4")}
        conv5, encoding, x = rematerialised(context, self.recomputed, "spp")(self, read)
        features = maps | {"conv5": conv5}
        heads = {"logits": conv(self.num_classes, 1, use_bias=True, name="head.conv6.1")(drop(name="head.conv6.0")(x))}

        aux = {}
        if self.aux:
            aux["se"] = Linear(self.num_classes, wide, name="head.encmodule.selayer")(encoding)
            fcn_head = rematerialised(FCNHead, self.recomputed, "head")
            heads["aux"] = fcn_head(self.num_classes, conv, norm, drop, name="auxlayer.block")(maps["layer3"])
        return seg_output(heads, features, images.shape[1:3], align_corners=True, aux=aux)

    def _fuse(self, x: Array, maps: dict[str, Array], conv: ModuleDef, norm: ModuleDef) -> Array:
        """Returns conv5's map x fused with projections of layer2 and layer3, resized to x's size if theirs differs."""
        branches = [x]
        for i, stage in enumerate(("layer2", "layer3")):
            y = conv(512, 1, name=f"head.connect.{i}.0")(maps[stage])
            y = relu(norm(name=f"head.connect.{i}.1")(y))
            branches.append(y if y.shape == x.shape else resize(y, x.shape[1:3], align_corners=True))
        x = conv(512, 3, name="head.fusion.0")(jnp.concatenate(branches, -1))
        return relu(norm(name="head.fusion.1")(x))

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output (PyTorch-Encoding's training defaults)."""
        return {"logits": 1.0, "se": 0.2, "aux": 0.2} if self.aux else {"logits": 1.0}

    @property
    def loss_names(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Returns output -> (loss, its options), which `train.loss` uses there instead of the term's own loss."""
        return {"se": ("presence_cross_entropy", {})} if self.aux else {}


encnet_r50 = partial(EncNet, depth=50)
encnet_r101 = partial(EncNet, depth=101)
