"""Trunks that fit many networks, and which leaves of a network are its trunk: what ImageNet weights fill."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from segjax.errors import UserError, did_you_mean
from segjax.models.backbones.efficientnet_lite import EfficientNetLite
from segjax.models.backbones.mobilenet_v2 import MobileNetV2

# Trunks for small devices; they have `stages` with the names of a ResNet's, and the name that their weights expect
LIGHT: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": partial(MobileNetV2, name="backbone"),
    **{f"efficientnet_lite{n}": partial(EfficientNetLite, n, name="backbone") for n in range(3)},
}


def find_trunk(name: str | None, published: Callable[..., nn.Module], **layers: Any) -> nn.Module:
    """The trunk that a network was published with, or the one of LIGHT called name in its place.

    layers: what every trunk takes: conv, norm, output_stride, remat. Called in the network's compact method.
    """
    if name is None:
        return published(**layers)
    if name not in LIGHT:
        raise UserError(
            f"trunk={name!r} does not fit here; leave it out for the published one.{did_you_mean(name, LIGHT)}"
        )
    return LIGHT[name](**layers)


# The names under which the published networks keep their trunks. What a decoder or a classifier keeps under the same
# prefix (SwiftNet's pyramid pooling, the ImageNet classifier of some ports) is left out.
PATTERN = (
    r"^("
    r"backbone\.(?!spp\.|upsample|img_|_conv_head|_bn1\.)"
    r"|pretrained\.(?!fc\.)|context_path\.|cp\.resnet\.|features\.|base\.layer\d|mod\d\."
    r"|layer\d\.|(conv|bn)[12]\.|transition\d\.|stage\d\."
    r")"
)


def trunk_pattern(module: nn.Module) -> str:
    """Regular expression (re.search) of the PyTorch names of the trunk's leaves.

    A network whose trunk has other names says so with a class attribute or property `trunk_pattern`; "" means that it
    has none.
    """
    return getattr(module, "trunk_pattern", PATTERN)
