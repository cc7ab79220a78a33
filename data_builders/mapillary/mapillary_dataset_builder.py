"""Mapillary Vistas, research edition, version 1.2: street scenes of six continents, 65 classes and 65 = unlabeled."""

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
    name="mapillary",
    title="Mapillary Vistas",
    homepage="https://www.mapillary.com/dataset/vistas",
    licence="CC BY-NC-SA 4.0 (research edition)",
    classes="mapillary",
    size="varies, about 2500x3300",
    disk="30 GB",
    archives={"mapillary-vistas-dataset_public_v1.2.zip": 0, "mapillary-vistas-dataset_public_v2.0.zip": 0},
    images={"train": 18000, "validation": 2000, "test": 5000},
    divisions={"trainval": division("train+validation")},
    citation="""@inproceedings{Neuhold2017Mapillary,
  title={The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes},
  author={Neuhold, Gerhard and Ollmann, Tobias and Rota Bul{\\`o}, Samuel and Kontschieder, Peter},
  booktitle={ICCV}, year={2017}}""",
)
LABEL_MAP = LabelMap(class_table("mapillary"), name="the label map of Mapillary")
_FOLDERS = {"train": "training", "validation": "validation", "test": "testing"}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Copies the published JPEGs; masks are the palette indices of the published PNGs."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [trees.TreeConfig()]

    def _info(self) -> tfds.core.DatasetInfo:
        return records.published_info(self, ABOUT, LABEL_MAP)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        base = trees.root(ABOUT, self.builder_config)
        splits = {}
        for split, name in _FOLDERS.items():
            if split == "test":
                if (base / name / "images").is_dir():
                    splits[split] = trees.pair(base / name / "images", None)
                continue
            labels = trees.folder(ABOUT, base, f"{name}/labels", f"{name}/v1.2/labels")  # 1.2 and 2.0 as unpacked
            splits[split] = trees.pair(trees.folder(ABOUT, base, f"{name}/images"), labels)
        return trees.generators(self, ABOUT, splits)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from trees.examples(items, LABEL_MAP)
