"""ADE20K for scene parsing (ADEChallengeData2016): indoor and outdoor scenes, 150 classes, 0 = other objects."""

from __future__ import annotations

from pathlib import Path

from data_builders import trees
from data_builders.about import About
from data_builders.published import Folders, PublishedBuilder, folder_splits
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
FOLDERS = {
    "train": Folders("images/training", ("annotations/training",)),
    "validation": Folders("images/validation", ("annotations/validation",)),
}


class Builder(PublishedBuilder):
    """Builder that copies the published JPEGs and ids 0..150."""

    about, label_map = ABOUT, LABEL_MAP

    def splits(self, base: Path) -> dict[str, list[trees.Item]]:
        """Returns the files of train and validation; errors as in `folder_splits`."""
        base = base / "ADEChallengeData2016" if (base / "ADEChallengeData2016").is_dir() else base
        return folder_splits(ABOUT, base, FOLDERS)
