"""Networks that carry coarse logits from one frame to the next: their base, and two without convolutions of the image.

A network has a state, in which the logits are (b, h', w', k), on a grid of one cell per `stride` pixels:

    state = network.start(output, size)                                  of the keyframe network's output
    state = network.apply(variables, state, image, before)               for every further frame
    ids = ops.resize_argmax(network.logits(state), size, align_corners=True)

Source: Lee et al., GSVNet (ICIP 2021), sections 3.2 and 3.3; details are those of its released code.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.flow_light import FlowLight
from segjax.models.flownets import FlowNetS
from segjax.models.remat import segments
from segjax.ops import bilinear_warp, resize
from segjax.typing import Array, SegOutput

STRIDES = (4, 8)
FLOWS = ("light", "flownets")
FLOW_UNIT = 4  # the released flow networks predict quarters of a cell


class Propagation(nn.Module):
    """Base of propagation networks. Call: (state, image, before) -> state.

    num_classes: k.
    stride: pixels per cell of the grid, 8 as published, or 4.
    flow: network of the optical flow, "light" or "flownets" (FlowNetS, 38.7 M parameters).
    bgr: whether its convolutions read the channels as BGR, as released weights do.
    dtype: of the computation, "float32" or "bfloat16"; parameters, statistics, flow and state stay float32.
    bn_momentum, bn_eps, bn_groups: of all batch norms, see `ImageNetwork`.
    remat: True or "step": compute the activations of each frame again in the backward pass (training/snippet_step.py).
    """

    num_classes: int
    stride: int = 8
    flow: str = "light"
    bgr: bool = False
    dtype: str = "float32"
    bn_momentum: float = 0.1
    bn_eps: float = 1e-5
    bn_groups: int = 1
    remat: bool | str = False

    remat_segments = ("step",)
    usual_remat = "step"
    guided_by_edges = False  # whether edges of the warped labels guide a filter
    full_frames = False  # whether it reads whole frames in 0..255 instead of normalised ones at the size of the grid

    @property
    def recomputed(self) -> frozenset[str]:
        """Returns the segments that `remat` names. Raises UserError for one that does not exist."""
        return segments(self.remat, self.usual_remat)

    @property
    def norms(self) -> dict[str, float]:
        """Returns the options of batch norms, for the networks inside this one."""
        return dict(bn_momentum=self.bn_momentum, bn_eps=self.bn_eps, bn_groups=self.bn_groups)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the rows and columns (h', w') of the state of frames of `size`; a last cell may be narrower."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def start(self, output: SegOutput, size: tuple[int, int]) -> Any:
        """Returns the state after a keyframe.

        output: of the keyframe network, for the frame at any size.
        size: rows and columns of the frame.
        """
        return on_grid(output.features["low.logits"], output, self.grid(size))

    def logits(self, state: Any) -> Array:
        """Returns the logits (b, h', w', k) of a state, float32."""
        return state

    def shrunk(self, image: Array, grid: tuple[int, int]) -> Array:
        """Returns a normalised frame (b, h, w, 3) at the size of the grid; unchanged if it has that size."""
        if self.stride not in STRIDES:
            raise UserError(f"stride={self.stride} of a propagation network must be 4 or 8.")
        return resize(image[..., ::-1] if self.bgr else image, grid, align_corners=True)

    def flow_between(self, image: Array, before: Array, train: bool) -> Array:
        """Returns the flow (b, h', w', 2) in cells, from each cell of a frame into the frame before.

        image, before: (b, h', w', 3), see `shrunk`. Call it in the compact method of a network.
        """
        if self.flow not in FLOWS:
            raise UserError(f"flow={self.flow!r} of a propagation network must be {' or '.join(FLOWS)}.")
        wide = jnp.promote_types(self.dtype, jnp.float32)
        if self.flow == "light":
            flow = FlowLight(dtype=self.dtype, **self.norms, name="ofnet")(jnp.concatenate([image, before], -1), train)
        else:
            net = FlowNetS(up_padding=0, flow_bias=True, pool=True, dtype=self.dtype, name="ofnet")
            flow = net(jnp.concatenate([before, image], -1))
        flow = resize(flow.astype(wide), image.shape[1:3], align_corners=True)  # its values are not scaled with it
        self.sow("intermediates", "flow", flow)
        return flow / FLOW_UNIT

    def warped(self, state: Array, flow: Array) -> Array:
        """Returns a map (b, h', w', c) of the frame before, moved into this frame; cells without a source are 0."""
        moved = bilinear_warp(state, flow, border="zeros")
        self.sow("intermediates", "warped", moved)
        return moved


def on_grid(features: Array, output: SegOutput, grid: tuple[int, int]) -> Array:
    """Returns features (b, h, w, c) of an image network, resized to (b, *grid, c).

    Rows and columns that cover only the padding of the network's images are cut off (`SegOutput.enlargement`).
    """
    rule = output.enlargement
    if rule is None or rule.padded is None:
        return resize(features, grid, align_corners=True)
    padded = tuple(round(n * p / s) for n, p, s in zip(grid, rule.padded, rule.size))
    return resize(features, padded, align_corners=True)[:, : grid[0], : grid[1]]


class Copy(Propagation):
    """Baseline without parameters: the labels of the keyframe stay where they are."""

    @nn.compact
    def __call__(
        self, state: Array, image: Array, before: Array, train: bool = False, train_flow: bool = False
    ) -> Array:
        """Returns the state (b, h', w', k) unchanged."""
        return state


class Warp(Propagation):
    """Baseline: the logits move with the optical flow (GSVNet, eq. 1), and nothing corrects them."""

    @nn.compact
    def __call__(
        self, state: Array, image: Array, before: Array, train: bool = False, train_flow: bool = False
    ) -> Array:
        """Returns the logits of this frame; see `GSVNet` for the arguments.

        Raises UserError for groups of batch norms with a flow network that has none.
        """
        if self.bn_groups > 1 and self.flow != "light":
            raise UserError(
                f"bn_groups={self.bn_groups}: warp with flow={self.flow!r} has no batch norm; leave it out."
            )
        image, before = (self.shrunk(x, state.shape[1:3]) for x in (image, before))
        return self.warped(state, self.flow_between(image, before, train or train_flow))
