"""Light optical flow of GSVNet: two strided convolutions and a hierarchical feature fusion block.

Source: Lee et al., ICIP 2021, appendix C, with the tensor names of the released code (model/flownet/networks.py).
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import conv_and_norm
from segjax.models.sdcnet import leaky
from segjax.typing import Array

DILATIONS = (1, 2, 4, 8)


class FlowLight(nn.Module):
    """Light flow: x (b, h, w, 6), the current frame and the one before -> (b, ceil(h / 4), ceil(w / 4), 2), as trained.

    186,402 parameters.
    """

    dtype: str = "float32"
    bn_momentum: float = 0.1
    bn_eps: float = 1e-5
    bn_groups: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns the flow of x."""
        conv, norm = conv_and_norm(self, train)
        conv = partial(conv, use_bias=True)

        def block(x: Array, name: str, *args: int, **options: int) -> Array:
            return leaky(norm(name=f"{name}.1")(conv(*args, **options, name=f"{name}.0")(x)))

        x = block(block(x, "conv1", 32, 3, 2), "conv2", 64, 3, 2)
        dilated = []
        for i, dilation in enumerate(DILATIONS, start=1):
            y = block(x, f"conv_dilate_{i}", 64, 3, dilation=dilation)
            dilated.append(y + dilated[-1] if dilated else y)  # the sum of all so far, against gridding
        merged = block(jnp.concatenate(dilated, -1), "conv_merge", 64, 1) + x
        return conv(2, 3, name="toflow")(merged)
