"""The families of weight files, one table per origin; SOURCES joins them.

Nearly all were trained on images normalised as torchvision's ImageNet networks; those that were not say so.
"""

from dataclasses import replace

from segjax.weights.families import authors, mmsegmentation, nvidia, timm, torchvision
from segjax.weights.source import Source

SOURCES: dict[str, Source] = {
    name: replace(source, normalisation=source.normalisation or "imagenet")
    for family in (torchvision, timm, nvidia, authors, mmsegmentation)
    for name, source in family.SOURCES.items()
}
