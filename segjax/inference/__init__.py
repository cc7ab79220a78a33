"""Inference: trained networks, views of an image, evaluation protocols, and predictions of files and videos."""

from segjax.inference.files import FilesReport, predict_clips, predict_files
from segjax.inference.network import Network, open_network
from segjax.inference.protocols import PROTOCOLS, find_protocol
from segjax.inference.views import check_views, predict, predictor, tile_starts

__all__ = [
    "PROTOCOLS", "FilesReport", "Network", "check_views", "find_protocol", "open_network", "predict", "predict_clips",
    "predict_files", "predictor", "tile_starts",
]  # fmt: skip
