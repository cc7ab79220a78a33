"""FlowNetS (Dosovitskiy et al., ICCV 2015; FlowNet2-S of Ilg et al., CVPR 2017): learned optical flow of two images.

Tensor names of NVIDIA/flownet2-pytorch. `FlowNetS` is the bare network, which GSVNet uses too, in a variant of its own.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import Conv, ConvTranspose, kaiming_fan_in
from segjax.models.sdcnet import encode, leaky, pad_reflect
from segjax.ops import avg_pool, resize
from segjax.typing import Array

_WIDTHS = (64, 128, 256, 512, 512, 1024)


class FlowNetS(nn.Module):
    """Call: (b, h, w, c) -> flow (b, h / 4, w / 4, 2) in the units it was trained with; 38.7 M parameters.

    up_padding: of the transposed convolutions, 1 as published; with 0 they are cropped to what they are joined with,
        and any size works (GSVNet). flow_bias: of those that enlarge flow. pool: halve the last map before its flow is
        predicted (GSVNet: the result has 1/8 of the size).
    """

    up_padding: int = 1
    flow_bias: bool = False
    pool: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: two images, one after the other in the channels, normalised."""
        dtype = jnp.dtype(self.dtype)
        conv = partial(Conv, use_bias=True, dtype=dtype, kernel_init=kaiming_fan_in)
        up = partial(ConvTranspose, padding=self.up_padding, dtype=dtype)
        maps = encode(x.astype(dtype), conv, _WIDTHS)
        y = maps.pop()
        for level, width in ((5, 512), (4, 256), (3, 128), (2, 64)):
            h, w = maps[level].shape[1:3]
            flow = conv(2, 3, name=f"predict_flow{level + 1}")(y)
            flow = up(2, use_bias=self.flow_bias, name=f"upsampled_flow{level + 1}_to_{level}")(flow)
            y = leaky(up(width, name=f"deconv{level}.0")(y))
            y = jnp.concatenate([maps[level], y[:, :h, :w], flow[:, :h, :w]], -1)
        return conv(2, 3, name="predict_flow2")(avg_pool(y, 2, 2) if self.pool else y)


class FlowNet2S(nn.Module):
    """FlowNet2-S. Call: images a, b (b, h, w, 3) RGB 0..255 -> flow (b, h, w, 2) pixels, from a into b; any h, w.

    Images are padded to multiples of 64 by reflection.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, first: Array, second: Array) -> Array:
        """The pair's mean colour is taken away; the network's output counts 20 pixels as 1, at 1/4 of the size."""
        h, w = first.shape[1:3]
        wide = jnp.promote_types(self.dtype, jnp.float32)
        pair = pad_reflect(jnp.stack([first, second], 1).astype(wide), 64)
        pair = (pair - pair.mean((1, 2, 3), keepdims=True)) / 255
        net = FlowNetS(dtype=self.dtype)
        nn.share_scope(self, net)
        flow = 20 * net(jnp.concatenate([pair[:, 0], pair[:, 1]], -1)).astype(wide)
        return resize(flow, pair.shape[2:4])[:, :h, :w]
