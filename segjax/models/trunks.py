"""Trunks that fit many networks, and the pattern for the leaves of a trunk, which ImageNet weights fill."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from segjax.errors import UserError, did_you_mean
from segjax.models.backbones.efficientnet_lite import EfficientNetLite
from segjax.models.backbones.mobilenet_v2 import MobileNetV2

# Trunks for small devices. Their `stages` have the names of a ResNet's; the module name is the one in their weights.
LIGHT: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": partial(MobileNetV2, name="backbone"),
    **{f"efficientnet_lite{n}": partial(EfficientNetLite, n, name="backbone") for n in range(3)},
}


def find_trunk(name: str | None, published: Callable[..., nn.Module], **layers: Any) -> nn.Module:
    """Builds the published trunk of a network if `name` is None, otherwise the trunk `name` of LIGHT.

    published: constructor of the published trunk.
    layers: arguments of every trunk: conv, norm, output_stride, remat.

    Call it in the network's compact method. Raises UserError for a name that LIGHT does not contain.
    """
    if name is None:
        return published(**layers)
    if name not in LIGHT:
        raise UserError(
            f"trunk={name!r} does not fit here; leave it out for the published one.{did_you_mean(name, LIGHT)}"
        )
    return LIGHT[name](**layers)


# Prefixes of the trunk's tensors in the published networks. Parts of a decoder or a classifier with the same prefix
# (SwiftNet's pyramid pooling, the ImageNet classifier of some ports) are excluded.
PATTERN = (
    r"^("
    r"backbone\.(?!spp\.|upsample|img_|_conv_head|_bn1\.)"
    r"|pretrained\.(?!fc\.)|context_path\.|cp\.resnet\.|features\.|base\.layer\d|mod\d\."
    r"|layer\d\.|(conv|bn)[12]\.|transition\d\.|stage\d\."
    r")"
)


def trunk_pattern(module: nn.Module) -> str:
    """Returns the regular expression (for re.search) that matches the PyTorch names of the trunk's leaves.

    A network whose trunk has other names overrides it with a class attribute or property `trunk_pattern`. "" means
    that the network has no trunk.
    """
    return getattr(module, "trunk_pattern", PATTERN)
