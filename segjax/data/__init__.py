"""Data on the host, numpy only.

From files to batches: class tables and label maps (what a mask holds), sources (records by number), plans (which
records an epoch shows), a timeline (which step shows which samples), samples (crops of images, triples of frames),
`train_batches` and `eval_batches`. `open_source` opens a dataset of data_builders/ and builds it on first use.
"""

from segjax.data.builds import build_dataset, dataset_names, dataset_options, open_source
from segjax.data.cache import CachedSource
from segjax.data.classes import CLASSES, IGNORE_LABEL, ClassTable, Label, class_table
from segjax.data.epoch_plans import EpochPlan
from segjax.data.geometry import window_size
from segjax.data.label_map import LabelMap
from segjax.data.pipeline import eval_batches, train_batches
from segjax.data.plans import PLANS
from segjax.data.samples import ImageCrops, Samples, batch_spec
from segjax.data.snippets import JoinedSnippets, SnippetCrops, Snippets, eval_snippets
from segjax.data.sources import FolderSource, Record, Source
from segjax.data.stream import Reading
from segjax.data.tfds_source import TfdsSource
from segjax.data.timeline import Bucket, Timeline
from segjax.data.triplets import TripletCrops, Triplets, TripletSampling, eval_triplets

__all__ = [
    "CLASSES",
    "IGNORE_LABEL",
    "PLANS",
    "Bucket",
    "CachedSource",
    "ClassTable",
    "SnippetCrops",
    "Snippets",
    "EpochPlan",
    "FolderSource",
    "ImageCrops",
    "JoinedSnippets",
    "Label",
    "LabelMap",
    "Reading",
    "Record",
    "Samples",
    "Source",
    "TfdsSource",
    "Timeline",
    "TripletCrops",
    "TripletSampling",
    "Triplets",
    "batch_spec",
    "build_dataset",
    "class_table",
    "dataset_names",
    "dataset_options",
    "eval_batches",
    "eval_snippets",
    "eval_triplets",
    "open_source",
    "train_batches",
    "window_size",
]
