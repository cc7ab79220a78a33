"""FlowNetS (Dosovitskiy et al., ICCV 2015; FlowNet2-S of Ilg et al., CVPR 2017): learned optical flow of two images.

Tensor names of NVIDIA/flownet2-pytorch. `FlowNetS` is the bare network; GSVNet uses a variant of it.
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
    """FlowNetS: x (b, h, w, c) -> flow (b, h / 4, w / 4, 2) in the units of its training; 38.7 M parameters.

    up_padding: padding of the transposed convolutions, 1 as published. With 0 their outputs are cropped to the maps
        they are joined with, and any image size is possible (GSVNet).
    flow_bias: with a bias in the transposed convolutions that enlarge flow.
    pool: halve the last map before its flow is predicted (GSVNet: the result has 1/8 of the size).
    """

    up_padding: int = 1
    flow_bias: bool = False
    pool: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the flow of x (b, h, w, c): two normalised images, one after the other in the channels."""
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
    """FlowNet2-S: two images (b, h, w, 3), RGB 0..255 -> flow (b, h, w, 2) in pixels, from the first into the second.

    Any h, w: the images are padded to multiples of 64 by reflection.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, first: Array, second: Array) -> Array:
        """Returns the flow of the pair.

        The mean colour of the pair is subtracted. The network's output has the unit 20 pixels and 1/4 of the size.
        """
        h, w = first.shape[1:3]
        wide = jnp.promote_types(self.dtype, jnp.float32)
        pair = pad_reflect(jnp.stack([first, second], 1).astype(wide), 64)
        pair = (pair - pair.mean((1, 2, 3), keepdims=True)) / 255
        net = FlowNetS(dtype=self.dtype)
        nn.share_scope(self, net)
        flow = 20 * net(jnp.concatenate([pair[:, 0], pair[:, 1]], -1)).astype(wide)
        return resize(flow, pair.shape[2:4])[:, :h, :w]
