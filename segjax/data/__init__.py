"""Host side, numpy only: class tables, label maps, sources, epoch plans, batches."""

from segjax.data.builds import build_dataset, dataset_names, dataset_options, open_source
from segjax.data.cache import CachedSource
from segjax.data.classes import CLASSES, IGNORE_LABEL, ClassTable, Label, class_table
from segjax.data.geometry import window_size
from segjax.data.label_map import LabelMap
from segjax.data.pipeline import eval_batches, train_batches
from segjax.data.plans import PLANS, EpochPlan
from segjax.data.sources import FolderSource, Record, Source
from segjax.data.tfds_source import TfdsSource
from segjax.data.timeline import Bucket, Timeline

__all__ = [
    "CLASSES",
    "IGNORE_LABEL",
    "PLANS",
    "Bucket",
    "CachedSource",
    "ClassTable",
    "EpochPlan",
    "FolderSource",
    "Label",
    "LabelMap",
    "Record",
    "Source",
    "TfdsSource",
    "Timeline",
    "build_dataset",
    "class_table",
    "dataset_names",
    "dataset_options",
    "eval_batches",
    "open_source",
    "train_batches",
    "window_size",
]
