"""Weight files: read PyTorch (without torch), .safetensors, .npz and orbax; fill a network's variables; save them."""

from segjax.weights.families import SOURCES
from segjax.weights.load import find_source, load
from segjax.weights.names import sizes, to_state_dict
from segjax.weights.published import find, imagenet, pretrained, source_of
from segjax.weights.read import read, read_info
from segjax.weights.report import LoadReport
from segjax.weights.save import save
from segjax.weights.source import Place, Source

__all__ = [
    "SOURCES", "LoadReport", "Place", "Source", "find", "find_source", "imagenet", "load", "pretrained", "read",
    "read_info", "save", "sizes", "source_of", "to_state_dict",
]  # fmt: skip
