"""Inference: trained networks, views of an image, evaluation protocols, and predictions of files and videos."""

from segjax.inference.files import FilesReport, predict_clips, predict_files
from segjax.inference.labels import Labels, labeller, labels_of, predictor
from segjax.inference.network import Network, open_network
from segjax.inference.protocols import PROTOCOLS, find_protocol
from segjax.inference.views import check_views, predict, tile_starts

__all__ = [
    "PROTOCOLS", "FilesReport", "Labels", "Network", "check_views", "find_protocol", "labeller", "labels_of",
    "open_network", "predict", "predict_clips", "predict_files", "predictor", "tile_starts",
]  # fmt: skip
