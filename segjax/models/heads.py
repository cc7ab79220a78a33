"""What several networks share: the FCN head, the last upsampling, and the look-up of their published forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.layers import relu
from segjax.ops import resize
from segjax.typing import Array

ModuleDef = Callable[..., nn.Module]
Form = TypeVar("Form")

MMSEG_NAMES = ("convs.0.conv", "convs.0.bn", "conv_seg")  # of FCNHead in mmsegmentation


def find_form(network: str, form: str, forms: Mapping[str, Form]) -> Form:
    """forms[form], or a UserError that names the network and the nearest form."""
    if form not in forms:
        raise UserError(f"form={form!r} of {network} does not exist.{did_you_mean(form, forms)}")
    return forms[form]


class FCNHead(nn.Module):
    """3x3 convolution, BN, ReLU, dropout, 1x1 convolution (Long et al., CVPR 2015, as torchvision has it).

    channels: between the two; None for a quarter of the input's.
    drop: constructor of the dropout layer.
    names: of the convolutions and the norm.
    """

    num_classes: int
    conv: ModuleDef
    norm: ModuleDef
    drop: ModuleDef
    channels: int | None = None
    names: tuple[str, str, str] = ("0", "1", "4")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, h, w, c) -> (b, h, w, num_classes)."""
        first, norm, last = self.names
        x = self.conv(self.channels or x.shape[-1] // 4, 3, name=first)(x)
        x = self.drop(name="3")(relu(self.norm(name=norm)(x)))
        return self.conv(self.num_classes, 1, use_bias=True, name=last)(x)


def upsample_logits(logits: Array, size: tuple[int, int], *, align_corners: bool) -> Array:
    """Bilinear, (b, h, w, k) of any float type -> (b, *size, k) in float32 (float64 stays)."""
    return resize(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), size, align_corners=align_corners)
