"""The families of weight files, one table per origin; SOURCES joins them."""

from segjax.weights.families import authors, mmsegmentation, nvidia, timm, torchvision
from segjax.weights.source import Source

SOURCES: dict[str, Source] = {
    **torchvision.SOURCES,
    **timm.SOURCES,
    **nvidia.SOURCES,
    **authors.SOURCES,
    **mmsegmentation.SOURCES,
}
