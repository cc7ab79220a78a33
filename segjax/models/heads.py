"""Parts that several networks share: the FCN head, the end of every image network, the look-up of published forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.layers import relu
from segjax.ops import resize
from segjax.typing import Array, Enlargement, SegOutput

ModuleDef = Callable[..., nn.Module]
Form = TypeVar("Form")

MMSEG_NAMES = ("convs.0.conv", "convs.0.bn", "conv_seg")  # of FCNHead in mmsegmentation


def find_form(network: str, form: str, forms: Mapping[str, Form]) -> Form:
    """Returns forms[form]. Raises UserError with the network and the nearest form if `form` does not exist."""
    if form not in forms:
        raise UserError(f"form={form!r} of {network} does not exist.{did_you_mean(form, forms)}")
    return forms[form]


class FCNHead(nn.Module):
    """FCN head: 3x3 convolution, batch norm, ReLU, dropout, 1x1 convolution.

    Source: Long et al., CVPR 2015, in the form of torchvision.

    conv, norm: constructors of the layers, see `layers.conv_and_norm`.
    drop: constructor of the dropout layer.
    channels: channels between the convolutions; None for a quarter of the input's.
    names: names of the first convolution, the norm and the last convolution.
    """

    num_classes: int
    conv: ModuleDef
    norm: ModuleDef
    drop: ModuleDef
    channels: int | None = None
    names: tuple[str, str, str] = ("0", "1", "4")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x (b, h, w, c) to logits (b, h, w, k)."""
        first, norm, last = self.names
        x = self.conv(self.channels or x.shape[-1] // 4, 3, name=first)(x)
        x = self.drop(name="3")(relu(self.norm(name=norm)(x)))
        return self.conv(self.num_classes, 1, use_bias=True, name=last)(x)


def upsample_logits(
    logits: Array, size: tuple[int, int], *, align_corners: bool, padded: tuple[int, int] | None = None
) -> Array:
    """Returns logits (b, h', w', k) of any float type enlarged bilinearly to (b, *size, k), float32 (float64 stays).

    size: rows and columns of the images.
    align_corners: of the enlargement.
    padded: rows and columns of the padded images, if the network pads them at the bottom and right. The logits are
        enlarged to this size and then cropped to `size`.
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
    """Builds the output of an image network: enlarges its heads to the images' size. All image networks end with it.

    heads: logits (b, h', w', k) of any float type, by output name; one of them is "logits".
    features: intermediate maps by name.
    size: rows and columns of the images.
    align_corners, padded: rule of the enlargement, see `upsample_logits`.
    aux: auxiliary outputs that keep their own size.

    The features of the output also contain the logits of each head before its enlargement, in float32, as "low.NAME".
    So every image network has features["low.logits"] (b, h', w', k), and `upsample_logits` with the network's rule
    turns them into its logits. Their resolution is that of the last layer, except for these networks:

    - ICNet enlarges its last map to 1/4 before the classifier: the low logits are at 1/4, the map is at 1/8.
    - DeepLabV2 has several scales: the low logits are the maximum over all scales, at the resolution of scale 1.
    - PSPNet "semseg", BiSeNet "coincheung" and SwiftNetPyramid pad the images: the low logits cover the padded images.
    """
    low = {name: _widened(logits) for name, logits in heads.items()}
    small = SegOutput(low["logits"], {**(aux or {}), **low})
    del small.aux["logits"]
    features = {**features, **{f"low.{name}": y for name, y in low.items()}}
    rule = Enlargement(tuple(low), size, align_corners, padded)
    return enlarged(small.replace(features=features, enlargement=rule))


def enlarged(output: SegOutput) -> SegOutput:
    """Returns the output with its heads enlarged to the images' size by its own rule; unchanged without a rule.

    output: of `before_enlargement`.
    """
    rule = output.enlargement
    if rule is None:
        return output
    enlarge = partial(upsample_logits, size=rule.size, align_corners=rule.align_corners, padded=rule.padded)
    aux = {name: enlarge(y) if name in rule.heads else y for name, y in output.aux.items()}
    return output.replace(logits=enlarge(output.logits), aux=aux)


def before_enlargement(output: SegOutput) -> SegOutput:
    """Returns the output of a network without features, its heads as they were before the last enlargement."""
    if output.enlargement is None:
        return output.replace(features={})
    low = {name: output.features[f"low.{name}"] for name in output.enlargement.heads}
    logits = low.pop("logits")
    return output.replace(logits=logits, aux={**output.aux, **low}, features={})


def _widened(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
