"""FlowNet2 (Ilg et al., CVPR 2017): optical flow of two images by a stack of FlowNets and a fusion of two flows.

FlowNetC -> FlowNetS -> FlowNetS, each of which reads the second image warped by the flow before, beside FlowNetSD for
small displacements. Layer tables, units and tensor names of NVIDIA/flownet2-pytorch, with which VPLR's release computes
the flow that SDC-Net reads.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.flownets import UP_WIDTHS, FlowNetS, decode, normalised_pair, scaled
from segjax.models.layers import Conv, ConvTranspose, kaiming_fan_in
from segjax.models.sdcnet import leaky
from segjax.ops import bilinear_warp, correlation, resize
from segjax.typing import Array

DIV_FLOW = 20  # pixels in the unit of the outputs of FlowNetC and FlowNetS; FlowNetSD has 1/20 of a pixel

# per level from stride 2 on: channels of the strided convolution, and of the one after it
_COARSE = {4: (512, 512), 5: (512, 512), 6: (1024, 1024)}
_SD_LEVELS = {1: (64, 128), 2: (128, 128), 3: (256, 256), **_COARSE}
_FUSION_LEVELS = {1: (64, 128), 2: (128, 128)}
_FUSION_UP = {1: 32, 0: 16}


class _Parts(nn.Module):
    """What the networks of the stack have in common: the constructors of their layers, and scaled widths."""

    width: float = 1.0
    dtype: str = "float32"

    def constructors(self) -> dict[str, Any]:
        """Returns those of `decode`: all layers have a bias."""
        conv = partial(Conv, use_bias=True, dtype=jnp.dtype(self.dtype), kernel_init=kaiming_fan_in)
        up = partial(ConvTranspose, dtype=jnp.dtype(self.dtype))
        return dict(conv=conv, up=up, flow_up=up)

    def unit(self, channels: int, size: int = 3, stride: int = 1, *, name: str) -> Any:
        """Builds a convolution with a leaky ReLU."""
        layer = self.constructors()["conv"](scaled(channels, self.width), size, stride, name=f"{name}.0")
        return lambda x: leaky(layer(x))

    def pairs(self, x: Array, levels: dict[int, tuple[int, int]]) -> list[Array]:
        """Returns the maps of levels of two convolutions each, the first of which halves the map."""
        maps = []
        for level, (first, second) in levels.items():
            x = self.unit(first, stride=2, name=f"conv{level}")(x)
            x = self.unit(second, name=f"conv{level}_1")(x)
            maps.append(x)
        return maps

    def scaled_widths(self, widths: dict[int, int]) -> dict[int, int]:
        """Returns the channels of the transposed convolutions by level."""
        return {level: scaled(channels, self.width) for level, channels in widths.items()}


class FlowNetC(_Parts):
    """FlowNetC: x (b, h, w, 6) -> flow (b, h / 4, w / 4, 2), unit 20 pixels; 39.2 M parameters.

    Both images pass through the same three convolutions. Their features at 1/8 are compared by their correlation over
    21 x 21 displacements; the features of the first image, reduced to 32 channels, join it.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the flow of x: two normalised images, one after the other in the channels."""
        both = jnp.concatenate([x[..., :3], x[..., 3:]]).astype(self.dtype)
        fine = self.unit(128, 5, 2, name="conv2")(self.unit(64, 7, 2, name="conv1")(both))
        first, second = jnp.split(self.unit(256, 5, 2, name="conv3")(fine), 2)
        costs = leaky(correlation(first, second)).astype(self.dtype)
        joined = jnp.concatenate([self.unit(32, 1, name="conv_redir")(first), costs], -1)
        eighth = self.unit(256, name="conv3_1")(joined)
        # the decoder reads no map finer than 1/4, that of the first image
        maps = [x, x, jnp.split(fine, 2)[0], eighth, *self.pairs(eighth, _COARSE)]
        layers = self.constructors()
        y = decode(maps, self.scaled_widths(UP_WIDTHS), **layers)
        return layers["conv"](2, 3, name="predict_flow2")(y)


class FlowNetSD(_Parts):
    """FlowNetSD: x (b, h, w, 6) -> flow (b, h / 4, w / 4, 2), unit 1/20 pixel; 45.4 M parameters."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the flow of x: two normalised images, one after the other in the channels."""
        full = self.unit(64, name="conv0")(x)
        layers = self.constructors()
        maps = [full, *self.pairs(full, _SD_LEVELS)]
        y = decode(maps, self.scaled_widths(UP_WIDTHS), between=True, **layers)
        return layers["conv"](2, 3, name="predict_flow2")(y)


class FlowNetFusion(_Parts):
    """Fusion network: x (b, h, w, 11), see `FlowNet2` -> flow (b, h, w, 2) in pixels; 0.58 M parameters."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the flow."""
        full = self.unit(64, name="conv0")(x)
        layers = self.constructors()
        maps = [full, *self.pairs(full, _FUSION_LEVELS)]
        y = decode(maps, self.scaled_widths(_FUSION_UP), between=True, **layers)
        return layers["conv"](2, 3, name="predict_flow0")(y)


class FlowNet2(nn.Module):
    """FlowNet2: two images (b, h, w, 3), RGB 0..255 -> flow (b, h, w, 2) in pixels, from the first into the second.

    162,518,834 parameters. Any h, w: the images are padded to multiples of 64 by reflection.

    width: factor of all widths, 1 as published.
    dtype: of the networks; warps, differences and flows are computed in float32.
    """

    width: float = 1.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, first: Array, second: Array) -> Array:
        """Returns the flow of the pair."""
        h, w = first.shape[1:3]
        x = normalised_pair(first, second, self.dtype)
        options = dict(width=self.width, dtype=self.dtype)

        flow = self._full_size(DIV_FLOW * FlowNetC(**options, name="flownetc")(x).astype(x.dtype))
        for name, method in (("flownets_1", "bilinear"), ("flownets_2", "nearest")):
            warped, error = _warped(x, flow)
            seen = jnp.concatenate([x, warped, flow / DIV_FLOW, error], -1)
            flow = self._full_size(DIV_FLOW * FlowNetS(**options, name=name)(seen).astype(x.dtype), method)

        small = FlowNetSD(**options, name="flownets_d")(x).astype(x.dtype) / DIV_FLOW
        small = self._full_size(small, "nearest")
        seen = [x[..., :3], small, flow, _norm(small), _norm(flow), _warped(x, small)[1], _warped(x, flow)[1]]
        fused = FlowNetFusion(**options, name="flownetfusion")(jnp.concatenate(seen, -1))
        return fused.astype(x.dtype)[:, :h, :w]

    @staticmethod
    def _full_size(flow: Array, method: str = "bilinear") -> Array:
        return resize(flow, (4 * flow.shape[1], 4 * flow.shape[2]), method=method)


def _warped(pair: Array, flow: Array) -> tuple[Array, Array]:
    """Returns the second image of a pair (b, h, w, 6), warped by the flow, and how far it is from the first one."""
    warped = bilinear_warp(pair[..., 3:], flow)
    return warped, _norm(pair[..., :3] - warped)


def _norm(x: Array) -> Array:
    """Returns the Euclidean length over the channels of x (b, h, w, c), (b, h, w, 1)."""
    return jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))
