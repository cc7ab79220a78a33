"""ADE20K for scene parsing (ADEChallengeData2016): indoor and outdoor scenes, 150 classes, 0 = other objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from segjax.data.classes import class_table
from segjax.data.label_map import LabelMap
from segjax.data.splits import division

ABOUT = About(
    name="ade20k",
    title="ADE20K",
    homepage="http://sceneparsing.csail.mit.edu/",
    licence="BSD 3-clause for the annotations; images: research and education, non-commercial",
    classes="ade20k",
    size="varies, about 512x683",
    disk="1 GB",
    archives={"ADEChallengeData2016.zip": 0},
    images={"train": 20210, "validation": 2000},
    divisions={"trainval": division("train+validation")},
    citation="""@inproceedings{Zhou2017ADE20K,
  title={Scene Parsing through ADE20K Dataset},
  author={Zhou, Bolei and Zhao, Hang and Puig, Xavier and Fidler, Sanja and Barriuso, Adela and Torralba, Antonio},
  booktitle={CVPR}, year={2017}}""",
)
LABEL_MAP = LabelMap(class_table("ade20k"), name="the label map of ADE20K")
_FOLDERS = {"train": "training", "validation": "validation"}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Copies the published JPEGs and ids 0..150."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [trees.TreeConfig()]

    def _info(self) -> tfds.core.DatasetInfo:
        return records.published_info(self, ABOUT, LABEL_MAP)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        base = trees.root(ABOUT, self.builder_config)
        base = base / "ADEChallengeData2016" if (base / "ADEChallengeData2016").is_dir() else base
        splits = {
            split: trees.pair(
                trees.folder(ABOUT, base, f"images/{name}"), trees.folder(ABOUT, base, f"annotations/{name}")
            )
            for split, name in _FOLDERS.items()
        }
        return trees.generators(self, ABOUT, splits)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from trees.examples(items, LABEL_MAP)
