"""Weight files: read .pth (without torch), .safetensors, .npz; fill a network's variables; save them."""

from segjax.weights.load import LoadReport, load, read
from segjax.weights.names import SOURCES, Source, to_state_dict
from segjax.weights.pretrained import pretrained
from segjax.weights.save import save

__all__ = ["SOURCES", "LoadReport", "Source", "load", "pretrained", "read", "save", "to_state_dict"]
