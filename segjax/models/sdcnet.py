"""SDC-Net 2D (Reda et al., ECCV 2018) as VPLR released it: motion of the next frame from frames and optical flow.

Layer table, channel order and normalisation of NVIDIA/semantic-segmentation (branch sdcnet): FlowNetS at half width,
with transposed convolutions up to full size and one flow at the end. The released network is 2D and predicts motion
vectors only; it has neither the 3D convolutions nor the sampling kernels of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange

from segjax.errors import UserError
from segjax.models.layers import Conv, ConvTranspose, Initializer
from segjax.models.remat import rematerialised, segments
from segjax.ops import bilinear_warp
from segjax.typing import Array

# per level: width of FlowNetS, kernel size, and whether a second convolution follows the strided one
_ENCODER = ((64, 7, False), (128, 5, False), (256, 5, True), (512, 3, True), (512, 3, True), (1024, 3, True))
INITS = ("flow", "released")


@flax.struct.dataclass
class VideoOutput:
    """Output of a video network.

    flow: (b, h, w, 2) float32, pixels (u, v), from each pixel of the target frame into the frame before it.
    frame: (b, h, w, 3) float32, 0..255, the frame before the target warped by the flow: the prediction of the target.
    """

    flow: Array
    frame: Array


def leaky(x: Array) -> Array:
    """Returns the leaky ReLU of x with slope 0.1, which all networks of the FlowNet family use."""
    return nn.leaky_relu(x, 0.1)


def encode(x: Array, conv: Any, widths: Sequence[int]) -> list[Array]:
    """Returns [x, the last map of stride 2, of stride 4, ...] of FlowNetS's encoder.

    x: (b, h, w, c).
    conv: constructor of the convolutions.
    widths: channels of each level, from stride 2 on.

    Call it in the compact method of a module.
    """
    maps = [x]
    for level, (width, (_, size, twice)) in enumerate(zip(widths, _ENCODER), start=1):
        x = leaky(conv(width, size, 2, name=f"conv{level}.0")(x))
        if twice:
            x = leaky(conv(width, 3, name=f"conv{level}_1.0")(x))
        maps.append(x)
    return maps


def pad_reflect(x: Array, multiple: int) -> Array:
    """Pads x (..., h, w, c) at the bottom and right, by reflection, to multiples of `multiple`."""
    rows, columns = (-x.shape[-3] % multiple, -x.shape[-2] % multiple)
    if not rows and not columns:
        return x
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, rows), (0, columns), (0, 0)], mode="reflect")


class SDCNet2D(nn.Module):
    """SDC-Net 2D: images (b, t, h, w, 3), RGB 0..255, and flows (b, t - 1, h, w, 2) in pixels -> VideoOutput.

    frames: number of frames t. With 2, frames i - 1, i predict frame i + 1. With 3, frames i - 1, i, i + 1 reconstruct
        frame i + 1 (VPLR's choice).
    width: factor of all widths; 1 as released, 9.7 M parameters; 0.5 has a quarter of them.
    levels: halvings of the encoder, 6 as released; 4 suit images of 128 pixels.
    flow_mean, flow_std: mean and deviation (u, v) of the input flows, which normalise them. The defaults, as released,
        are those of FlowNet2 on Cityscapes.
    init_as: "released" (Xavier, biases uniform in 0..1), or "flow": the untrained network returns its last input flow,
        so that training starts at that flow's accuracy. Layers and names are the same.
    remat: "block" for the convolutions, "up" for the transposed ones, True for both; see models/remat.py.
    """

    frames: int = 3
    width: float = 1.0
    levels: int = 6
    flow_mean: tuple[float, float] = (-0.94427323, -1.23077035)
    flow_std: tuple[float, float] = (13.77204132, 7.47463894)
    init_as: str = "flow"
    dtype: str = "float32"
    remat: bool | str = False

    remat_segments = ("block", "up")
    usual_remat = "block+up"

    @nn.compact
    def __call__(self, images: Array, flows: Array, train: bool = False) -> VideoOutput:
        """Returns the flow into the frame before the target, and the predicted target.

        images: uint8 or float, in time order, any h, w.
        flows: flows[:, i] points from frame i + 1 into frame i.
        train: without effect, since the network has no batch norm and no dropout.
        Raises UserError for impossible options, and ValueError for shapes that do not fit.
        """
        self._check(images, flows)
        h, w = images.shape[2:4]
        dtype = jnp.dtype(self.dtype)
        wide = jnp.promote_types(dtype, jnp.float32)
        images, flows = images.astype(wide), flows.astype(wide)
        x = self._input(pad_reflect(images, 2**self.levels), pad_flows(flows, 2**self.levels))

        released = self.init_as == "released"
        bias = (lambda key, shape, dtype: jax.random.uniform(key, shape, dtype)) if released else nn.initializers.zeros
        xavier = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        remat = segments(self.remat, self.usual_remat)
        block = rematerialised(Conv, remat, "block")
        conv = partial(block, use_bias=True, dtype=dtype, kernel_init=xavier, bias_init=bias)
        up = partial(rematerialised(ConvTranspose, remat, "up"), dtype=dtype)

        maps = encode(x, conv, [self._scaled(width // 2) for width, _, _ in _ENCODER[: self.levels]])
        y = maps.pop()
        for level in reversed(range(self.levels)):
            y = leaky(up(self._scaled(8 * 2**level), name=f"deconv{level}.0")(y))
            y = jnp.concatenate([maps[level], y], -1)
        # the last convolution reads the input flow and returns pixels: half precision would be too coarse
        last = dict(dtype=wide) if released else dict(dtype=wide, kernel_init=last_flow_of(self.frames))
        y = conv(2, 3, name="final_flow", **last)(y)[:, :h, :w]
        mean, std = (jnp.asarray(v, wide) for v in (self.flow_mean, self.flow_std))
        flow = 3 * std * y + mean
        return VideoOutput(flow, bilinear_warp(images[:, 1], flow))

    def _input(self, images: Array, flows: Array) -> Array:
        # channels of the released network: u.., v.., B.., G.., R.., each with its frames in time order
        images = images[..., ::-1]  # RGB -> BGR
        images = (images - images.mean((1, 2, 3), keepdims=True)) / 255
        mean, std = (jnp.asarray(v, flows.dtype) for v in (self.flow_mean, self.flow_std))
        flows = (flows - mean) / (3 * std)
        return jnp.concatenate([rearrange(part, "b t h w c -> b h w (c t)") for part in (flows, images)], -1)

    def _scaled(self, width: int) -> int:
        return max(round(width * self.width), 4)

    def _check(self, images: Array, flows: Array) -> None:
        if self.frames not in (2, 3) or not 3 <= self.levels <= 6 or self.init_as not in INITS or self.width <= 0:
            raise UserError(
                f"an SDC-Net with frames={self.frames}, levels={self.levels}, width={self.width}, "
                f"init_as={self.init_as!r} does not exist; give frames 2 or 3, levels 3 to 6, a width above 0 and "
                f"init_as {' or '.join(INITS)}."
            )
        if images.ndim != 5 or images.shape[1] != self.frames:
            raise ValueError(f"images {images.shape} must be (b, {self.frames}, h, w, 3)")
        if flows.shape != (images.shape[0], self.frames - 1, *images.shape[2:4], 2):
            raise ValueError(f"flows {flows.shape} do not fit images {images.shape}")


def pad_flows(flows: Array, multiple: int) -> Array:
    """Pads flows (b, t, h, w, 2) like `pad_reflect`, and negates the mirrored component of mirrored pixels."""
    h, w = flows.shape[2:4]
    flows = pad_reflect(flows, multiple)
    u = jnp.where(jnp.arange(flows.shape[3]) < w, 1, -1)
    v = jnp.where(jnp.arange(flows.shape[2]) < h, 1, -1)
    signs = jnp.stack(jnp.broadcast_arrays(u[None], v[:, None]), -1)
    return flows * signs.astype(flows.dtype)


def last_flow_of(frames: int) -> Initializer:
    """Returns the initializer of a kernel (3, 3, c, 2) that copies the last flow.

    frames: frames of the network's input; their flows are its first channels.
    """

    def init(key, shape, dtype=jnp.float32):
        kernel = jnp.zeros(shape, dtype)
        for component in range(2):
            kernel = kernel.at[1, 1, (component + 1) * (frames - 1) - 1, component].set(1.0)
        return kernel

    return init
