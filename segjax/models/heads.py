"""What several networks share: the FCN head, the last upsampling, and the look-up of their published forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.layers import relu
from segjax.ops import resize
from segjax.typing import Array, SegOutput

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


def upsample_logits(
    logits: Array, size: tuple[int, int], *, align_corners: bool, padded: tuple[int, int] | None = None
) -> Array:
    """Returns logits (b, h', w', k) of any float type, enlarged bilinearly, as (b, *size, k) in float32.

    padded: rows and columns of the padded images, if the network pads them at the bottom and right. The logits are
        enlarged to this size and cropped to `size`.
    float64 stays float64.
    """
    full = resize(_widened(logits), padded or size, align_corners=align_corners)
    return full if padded is None else full[:, : size[0], : size[1]]


def seg_output(
    heads: Mapping[str, Array],
    features: Mapping[str, Array],
    size: tuple[int, int],
    *,
    align_corners: bool,
    padded: tuple[int, int] | None = None,
    aux: Mapping[str, Array] | None = None,
) -> SegOutput:
    """Builds the output of an image network; each of them ends with this function.

    heads: logits (b, h', w', k) by output name, "logits" among them, before their enlargement to the images' size.
    features: intermediate maps by name.
    size: rows and columns of the images.
    align_corners, padded: the rule of the enlargement, see `upsample_logits`.
    aux: auxiliary outputs that keep their size.

    The logits of each head are kept as features["low.NAME"], in float32 as they enter the enlargement. So every image
    network has features["low.logits"]. Four rules of enlargement occur:

    - most networks: bilinear from the stride of the head to the size of the images, with or without `align_corners`;
    - ICNet: the decoder first enlarges its map to 1/4; the low logits are at 1/4, not at the decoder's 1/8;
    - DeepLabV2: the low logits are the maximum over all scales, at the resolution of scale 1;
    - networks that pad (PSPNet "semseg", BiSeNet "coincheung", SwiftNetPyramid): the low logits cover the padded
      images; they are enlarged to the padded size and then cropped.
    """
    low = {name: _widened(logits) for name, logits in heads.items()}
    full = {name: upsample_logits(y, size, align_corners=align_corners, padded=padded) for name, y in low.items()}
    logits = full.pop("logits")
    return SegOutput(logits, {**(aux or {}), **full}, {**features, **{f"low.{name}": y for name, y in low.items()}})


def _widened(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
