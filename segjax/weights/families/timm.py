"""timm (https://github.com/huggingface/pytorch-image-models), Cadene's pretrained-models.pytorch, EfficientNet-Lite."""

from __future__ import annotations

from segjax.weights.families.trunks import DEEP_RESNET, RESNET, SE_RESNEXT
from segjax.weights.source import Place, Source, under

EFFICIENTNET = r"_conv_stem\.|_bn0\.|_blocks\."

SOURCES: dict[str, Source] = {
    # resnet18 .. resnet101, resnext50_32x4d; the variants with another stem (d, s, t) are other networks
    "timm_resnet": Source(ignore=r"^fc\.", places=RESNET),
    # gluon_resnet50_v1s, gluon_resnet101_v1s (now resnet50s.gluon_in1k): GluonCV's, with a deep stem of 64, 64, 128
    "timm_resnet_v1s": Source(ignore=r"^fc\.", places=DEEP_RESNET),
    # seresnext50_32x4d, seresnext101_32x4d; trained with torchvision's max pooling, padded by 1
    "timm_seresnext": Source(
        rename=((r"^(conv1|bn1)\.", r"layer0.\1."), (r"^(layer\d\.\d+)\.se\.", r"\1.se_module.")),
        ignore=r"^fc\.",
        places=SE_RESNEXT,
        options={"pool_padding": 1},
    ),
    # se_resnext50_32x4d, se_resnext101_32x4d; legacy_seresnext* of timm
    "cadene_se_resnext": Source(ignore=r"^last_linear\.", places=SE_RESNEXT),
    # dpn68 (rwightman/pytorch-dpn-pretrained); the trunk ends before the classifier's norm
    "timm_dpn": Source(
        ignore=r"^(classifier|features\.conv5_bn_ac)\.", places=under("", leaves=r"features\."), normalisation="dpn"
    ),
    # EfficientNet-Lite, ImageNet classifiers; the trunk ends before the convolution to 1280 channels
    "efficientnet_lite": Source(
        ignore=r"^(_conv_head|_bn1|_fc)\.",
        places=(Place(rename=((r"^", "backbone."),), fills=rf"^backbone\.({EFFICIENTNET})"),),
        normalisation="efficientnet_lite",
    ),
}
