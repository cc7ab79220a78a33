"""OpenMMLab mmsegmentation (https://github.com/open-mmlab/mmsegmentation): networks are backbone + decode_head.

Their layers are those of form="mmseg" of PSPNet and of the networks `deeplabv3plus_*_mmseg`, which have these names.
Models called R-50b or R-101b have torchvision's trunk (form="mmseg_b", deep_stem=False). Weights for crops of 769
pixels were trained with align_corners=True, an option that files do not contain.
"""

from __future__ import annotations

from segjax.weights.families.trunks import RESNET, STAGES
from segjax.weights.source import Source, under

HEADS = r"^(decode_head|auxiliary_head)\."
AUX = r"^auxiliary_head\."

SOURCES: dict[str, Source] = {
    # the trunk of any checkpoint, with any head, and the ImageNet files resnet50_v1c, resnet101_v1c; ResNetV1c fits
    # the networks of this origin, the plain ResNet fits all
    "mmseg_resnet": Source(
        rename=((r"^backbone\.", ""),),
        ignore=rf"{HEADS}|^fc\.",
        places=(*RESNET, *under("backbone.", leaves=rf"stem\.|{STAGES}")),
    ),
    "mmseg_pspnet": Source(ignore=AUX, options={"form": "mmseg"}),
    "mmseg_deeplabv3plus": Source(ignore=AUX),
}
