"""Which leaves of a network are its trunk: what ImageNet weights fill, and what may learn more slowly."""

from __future__ import annotations

import flax.linen as nn

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
