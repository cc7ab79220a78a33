"""Host side, numpy only: class tables, label maps, sources, epoch plans, batches."""

from segjax.data.build import build_dataset, dataset_names, open_source
from segjax.data.classes import CLASSES, IGNORE_LABEL, ClassTable, Label, class_table
from segjax.data.label_map import LabelMap
from segjax.data.sources import FolderSource, Record, Source
from segjax.data.tfds_source import TfdsSource

__all__ = [
    "CLASSES",
    "IGNORE_LABEL",
    "ClassTable",
    "FolderSource",
    "Label",
    "LabelMap",
    "Record",
    "Source",
    "TfdsSource",
    "build_dataset",
    "class_table",
    "dataset_names",
    "open_source",
]
