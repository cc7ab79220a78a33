"""FlowNetS (Dosovitskiy et al., ICCV 2015; FlowNet2-S of Ilg et al., CVPR 2017): learned optical flow of two images.

Tensor names of NVIDIA/flownet2-pytorch. `FlowNetS` is the bare network; GSVNet uses a variant of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import Conv, ConvTranspose, kaiming_fan_in
from segjax.models.sdcnet import encode, leaky, pad_reflect
from segjax.ops import avg_pool, resize
from segjax.typing import Array

_WIDTHS = (64, 128, 256, 512, 512, 1024)
UP_WIDTHS = {5: 512, 4: 256, 3: 128, 2: 64}  # level -> channels of its transposed convolution


def scaled(channels: int, width: float) -> int:
    """Returns a number of channels times the factor `width`, at least 1."""
    return max(1, round(channels * width))


def decode(
    maps: Sequence[Array], widths: Mapping[int, int], *, conv: Any, up: Any, flow_up: Any, between: bool = False
) -> Array:
    """Returns the map from which the last flow is predicted: FlowNet's decoder from coarse to fine.

    At each level, the map before is enlarged, and so is the flow predicted from it; both join the encoder's map.

    maps: of the encoder by level, halvings of the image; (b, h, w, c).
    widths: level -> channels of its transposed convolution, for the levels to decode, the coarsest first.
    conv, up, flow_up: constructors of the convolutions, and of the transposed ones for maps and for flow.
    between: whether flow is predicted from a convolution of the joined maps, as in FlowNetSD.

    Call it in the compact method of a module.
    """
    y = shown = maps[max(widths) + 1]
    for level, width in widths.items():
        h, w = maps[level].shape[1:3]
        flow = conv(2, 3, name=f"predict_flow{level + 1}")(shown)
        flow = flow_up(2, name=f"upsampled_flow{level + 1}_to_{level}")(flow)
        y = leaky(up(width, name=f"deconv{level}.0")(y))
        y = shown = jnp.concatenate([maps[level], y[:, :h, :w], flow[:, :h, :w]], -1)
        if between:  # without an activation
            shown = conv(width, 3, name=f"inter_conv{level}.0")(y)
    return shown


class FlowNetS(nn.Module):
    """FlowNetS: x (b, h, w, c) -> flow (b, h / 4, w / 4, 2) in the units of its training; 38.7 M parameters.

    up_padding: padding of the transposed convolutions, 1 as published. With 0 their outputs are cropped to the maps
        they are joined with, and any image size is possible (GSVNet).
    flow_bias: with a bias in the transposed convolutions that enlarge flow.
    width: factor of all widths, 1 as published.
    pool: halve the last map before its flow is predicted (GSVNet: the result has 1/8 of the size).
    """

    up_padding: int = 1
    flow_bias: bool = False
    pool: bool = False
    width: float = 1.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the flow of x (b, h, w, c): two normalised images, one after the other in the channels."""
        dtype = jnp.dtype(self.dtype)
        conv = partial(Conv, use_bias=True, dtype=dtype, kernel_init=kaiming_fan_in)
        up = partial(ConvTranspose, padding=self.up_padding, dtype=dtype)
        maps = encode(x.astype(dtype), conv, [scaled(width, self.width) for width in _WIDTHS])
        widths = {level: scaled(channels, self.width) for level, channels in UP_WIDTHS.items()}
        y = decode(maps, widths, conv=conv, up=up, flow_up=partial(up, use_bias=self.flow_bias))
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
        pair = normalised_pair(first, second, self.dtype)
        net = FlowNetS(dtype=self.dtype)
        nn.share_scope(self, net)
        flow = 20 * net(pair).astype(pair.dtype)
        return resize(flow, pair.shape[1:3])[:, :h, :w]


def normalised_pair(first: Array, second: Array, dtype: str) -> Array:
    """Returns two images (b, h, w, 3), 0..255, as FlowNet2 reads them: one after the other in the channels.

    The mean colour of the pair is subtracted, 255 becomes 1, and the sides are padded to multiples of 64 by reflection.
    The result is float32, or `dtype` if that is wider.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    pair = pad_reflect(jnp.stack([first, second], 1).astype(wide), 64)
    pair = (pair - pair.mean((1, 2, 3), keepdims=True)) / 255
    return jnp.concatenate([pair[:, 0], pair[:, 1]], -1)
