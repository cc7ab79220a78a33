"""Rules of the evaluation servers of datasets for submissions: folders, file names, ids, sizes and palettes.

server      files                                                       pixels
cityscapes  NAME_pred_labelIds.png, NAME = berlin_000000_000019         label ids 0..33
kitti       semantic/000000_10.png                                      label ids 0..33
bdd100k     NAME.png                                                    train ids 0..18, 255 = none
voc2012     results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png palette indices 0..20
"""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np

from segjax import metrics
from segjax.data import class_table
from segjax.data.tables.voc2012 import color
from segjax.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Server:
    """One evaluation server.

    dataset: name of the dataset and of its rule in `segjax.metrics.RULES`.
    upload: address to upload the archive to.
    folder: folder inside the archive.
    suffix: end of the file names after the record's name.
    prefix_is_enough: whether the server accepts any NAME*.png in any folder.
    size: (h, w) of all images, None = sizes differ.
    images: (split, number of images) pairs.
    ids: ids that a prediction may contain.
    extra: (raw id, extra label of the rule) pairs.
    palette: whether PNGs have a palette.
    """

    dataset: str
    upload: str
    folder: str = ""
    suffix: str = ""
    prefix_is_enough: bool = False
    size: tuple[int, int] | None = None
    images: tuple[tuple[str, int], ...] = ()
    ids: tuple[int, ...] = ()
    extra: tuple[tuple[int, int], ...] = ()
    palette: bool = False

    def path(self, name: str) -> str:
        """Returns the path of a record's prediction in the archive."""
        return f"{self.folder}{name}{self.suffix}.png"

    def matches(self, name: str, file: str) -> bool:
        """Whether the server takes a path in the archive for the prediction of a record."""
        if self.prefix_is_enough:
            return re.fullmatch(rf"(.*/)?{re.escape(name)}[^/]*\.png", file) is not None
        return file == self.path(name)

    @property
    def rule(self) -> metrics.Rule:
        """Rule that the server scores by."""
        return metrics.find_rule(self.dataset)

    @functools.cached_property
    def allowed(self) -> np.ndarray:
        """Whether a prediction may contain an id, bool (256,)."""
        table = np.zeros(256, bool)
        table[list(self.ids)] = True
        return table

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Id in a prediction -> label of the rule, uint8 (256,); 255 = no class."""
        table = np.full(256, 255, np.uint8)
        for label in class_table(self.dataset).classes:
            table[label.id] = label.train_id
        for raw, extra in self.extra:
            table[raw] = extra
        return table

    @property
    def colors(self) -> np.ndarray | None:
        """Palette of its PNGs, uint8 (256, 3); None = grey."""
        return np.array([color(index) for index in range(256)], np.uint8) if self.palette else None


_LABEL_IDS = tuple(range(34))
_UNSCORED = ((29, 19), (30, 20))  # caravan and trailer

SERVERS: dict[str, Server] = {
    "cityscapes": Server(
        "cityscapes",
        "https://www.cityscapes-dataset.com/submit/",
        suffix="_pred_labelIds",
        prefix_is_enough=True,
        size=(1024, 2048),
        images=(("test", 1525), ("validation", 500)),
        ids=_LABEL_IDS,
        extra=_UNSCORED,
    ),
    "kitti": Server(
        "kitti",
        "https://www.cvlibs.net/datasets/kitti/user_submit.php",
        folder="semantic/",
        images=(("test", 200), ("train", 200)),
        ids=_LABEL_IDS,
        extra=_UNSCORED,
    ),
    "bdd100k": Server(
        "bdd100k",
        "https://eval.ai/web/challenges/challenge-page/1257",
        size=(720, 1280),
        images=(("test", 2000), ("validation", 1000)),
        ids=(*range(19), 255),
    ),
    "voc2012": Server(
        "voc2012",
        "http://host.robots.ox.ac.uk:8080/",
        folder="results/VOC2012/Segmentation/comp6_test_cls/",
        images=(("test", 1456), ("validation", 1449)),
        ids=tuple(range(21)),
        palette=True,
    ),
}


def find_server(name: str, *, competition: str = "") -> Server:
    """Returns the server of a dataset.

    competition: of voc2012 only: "comp5" for networks trained on images of VOC and ImageNet alone, else "comp6".

    Raises UserError for an unknown dataset or competition, or a competition of another dataset.
    """
    if name not in SERVERS:
        raise UserError(f"there is no server for the data set {name!r}.{did_you_mean(name, SERVERS)}")
    server = SERVERS[name]
    if not competition:
        return server
    if name != "voc2012":
        raise UserError(f"--competition={competition} is for voc2012; leave it out for {name}")
    known = ("comp5", "comp6")
    if competition not in known:
        raise UserError(f"voc2012 has no competition {competition!r} to segment.{did_you_mean(competition, known)}")
    return dataclasses.replace(server, folder=server.folder.replace("comp6", competition))
