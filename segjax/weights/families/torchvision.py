"""torchvision (https://github.com/pytorch/vision): ImageNet classifiers as trunks, and the segmentation networks."""

from __future__ import annotations

from segjax.weights.families.trunks import RESNET
from segjax.weights.source import Source, under

SOURCES: dict[str, Source] = {
    # resnet18 .. resnet101, resnext50_32x4d
    "torchvision_resnet": Source(ignore=r"^fc\.", places=RESNET),
    # before 2019 the layers of a block were called norm.1, conv.1 (the names of the files are the same)
    "torchvision_densenet": Source(
        rename=((r"^(.*\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
        ignore=r"^(classifier\.|features\.norm5\.)",
        places=under("", "backbone.", leaves=r"features\."),
    ),
    # trunks without the last convolution, features.18, count it to the classifier
    "torchvision_mobilenet_v2": Source(
        ignore=r"^(classifier\.|features\.18\.)", places=under("", "backbone.", leaves=r"features\.")
    ),
    # deeplabv3_resnet50, deeplabv3_resnet101, fcn_resnet50, fcn_resnet101; only a network with an auxiliary head uses
    # aux_classifier
    "torchvision_segmentation": Source(ignore=r"^aux_classifier\."),
}
