"""Families of weight files, one table per origin; SOURCES joins them.

A family without a `normalisation` was trained on images normalised like those of torchvision's ImageNet networks.
"""

from dataclasses import replace

from segjax.weights.families import authors, mmsegmentation, nvidia, timm, torchvision
from segjax.weights.source import Source

SOURCES: dict[str, Source] = {
    name: replace(source, normalisation=source.normalisation or "imagenet")
    for family in (torchvision, timm, nvidia, authors, mmsegmentation)
    for name, source in family.SOURCES.items()
}
