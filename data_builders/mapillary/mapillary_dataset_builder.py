"""Mapillary Vistas, research edition, version 1.2: street scenes of six continents, 65 classes and 65 = unlabeled."""

from __future__ import annotations

from pathlib import Path

from data_builders import trees
from data_builders.about import About
from data_builders.published import Folders, PublishedBuilder, folder_splits
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
FOLDERS = {
    "train": Folders("training/images", ("training/labels", "training/v1.2/labels")),
    "validation": Folders("validation/images", ("validation/labels", "validation/v1.2/labels")),
    "test": Folders("testing/images"),
}


class Builder(PublishedBuilder):
    """Builder that copies the published JPEGs; masks are the palette indices of the published PNGs."""

    about, label_map = ABOUT, LABEL_MAP

    def splits(self, base: Path) -> dict[str, list[trees.Item]]:
        """Returns the files of train, validation, and test if it exists; errors as in `folder_splits`.

        They are those of version 1.2, or of the folder v1.2 in an unpacked version 2.0.
        """
        return folder_splits(ABOUT, base, FOLDERS)
