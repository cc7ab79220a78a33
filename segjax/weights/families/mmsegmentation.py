"""OpenMMLab mmsegmentation (https://github.com/open-mmlab/mmsegmentation): networks are backbone + decode_head.

Its ResNetV1c has a deep stem of 32, 32 and 64 channels (`stem.{0,1,3,4,6,7}`), half of the published one, and dilates
by torchvision's rule; both come with the weights as options. All its upsampling is align_corners=False.
"""

from __future__ import annotations

from segjax.weights.families.trunks import DEEP_RESNET, RESNET
from segjax.weights.source import Source

HEADS = r"^(decode_head|auxiliary_head)\."

SOURCES: dict[str, Source] = {
    # the ResNet (conv1, bn1) of any checkpoint
    "mmseg_resnet": Source(rename=((r"^backbone\.", ""),), ignore=rf"{HEADS}|^fc\.", places=RESNET),
    # the ResNetV1c of any checkpoint, of DeepLabV3+ too, whose head (norms inside separable convolutions, a projection
    # of 512 channels) is another network
    "mmseg_resnet_v1c": Source(
        rename=(
            (r"^(?:backbone\.)?stem\.7\.", "bn1."),
            (r"^(?:backbone\.)?stem\.", "conv1."),
            (r"^backbone\.", ""),
        ),
        ignore=rf"{HEADS}|^fc\.",
        places=DEEP_RESNET,
        options={"stem_channels": (32, 32, 64)},
    ),
    # PSPNet on ResNetV1c, in the names of semseg
    "mmseg_pspnet": Source(
        rename=(
            (r"^backbone\.stem\.", "layer0."),
            (r"^backbone\.", ""),
            (r"^decode_head\.psp_modules\.(\d)\.1\.conv\.", r"ppm.features.\1.1."),
            (r"^decode_head\.psp_modules\.(\d)\.1\.bn\.", r"ppm.features.\1.2."),
            (r"^decode_head\.bottleneck\.conv\.", "cls.0."),
            (r"^decode_head\.bottleneck\.bn\.", "cls.1."),
            (r"^decode_head\.conv_seg\.", "cls.4."),
            (r"^auxiliary_head\.convs\.0\.conv\.", "aux.0."),
            (r"^auxiliary_head\.convs\.0\.bn\.", "aux.1."),
            (r"^auxiliary_head\.conv_seg\.", "aux.4."),
        ),
        ignore=r"^auxiliary_head\.",
        options={"align_corners": False, "dilation_rule": "torchvision", "stem_channels": (32, 32, 64)},
    ),
}
