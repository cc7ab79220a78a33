"""From images to predictions: views of an image, evaluation of a data set, reports, and files and videos."""

from segjax.inference.clips import Frame, Images, Video, open_clips
from segjax.inference.evaluate import Evaluation, ImageScore, evaluate
from segjax.inference.extra_scores import ExtraScores, describe_scores, plain_scores
from segjax.inference.files import FilesReport, predict_files
from segjax.inference.predict import check_views, predict, predictor, tile_starts
from segjax.inference.protocols import PROTOCOLS, find_protocol
from segjax.inference.report import class_table, print_scores, worst_sheet, write_report

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "ExtraScores",
    "FilesReport",
    "Frame",
    "ImageScore",
    "Images",
    "Video",
    "check_views",
    "class_table",
    "describe_scores",
    "evaluate",
    "find_protocol",
    "open_clips",
    "plain_scores",
    "predict",
    "predict_files",
    "predictor",
    "print_scores",
    "tile_starts",
    "worst_sheet",
    "write_report",
]
