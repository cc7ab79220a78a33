"""OpenMMLab mmsegmentation (https://github.com/open-mmlab/mmsegmentation): networks are backbone + decode_head.

The heads are other networks than ours (DeepLabV3+ has norms inside its separable convolutions), and so is the stem of
its ResNetV1c (32, 32 and 64 channels); the plain ResNet is torchvision's.
"""

from __future__ import annotations

from segjax.weights.families.trunks import RESNET
from segjax.weights.source import Source

HEADS = r"^(decode_head|auxiliary_head)\."

SOURCES: dict[str, Source] = {
    # the ResNet (conv1, bn1) of any checkpoint, whatever the head
    "mmseg_resnet": Source(rename=((r"^backbone\.", ""),), ignore=rf"{HEADS}|^fc\.", places=RESNET),
}
