"""What a part is given: sizes of its work, and where things are."""

from __future__ import annotations

import dataclasses
from typing import Any

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the work; image: (h, w) of street scenes. repeats: timed runs, of which the median counts.

    matmul: rows of a square matrix. copy: bytes. reference: images that float64 computes on the CPU, (h, w).
    warp: (b, h, w) of images. ladder: (h, w) of images and their number, as in Tables 11 and 12 of the paper.
    small_ladder: options that shrink a Ladder DenseNet. video: (h, w) of frames. files: images read by the loader, and
    their size. camvid: config keys and their values, for the training.
    """

    image: Size = (512, 1024)
    batch: int = 8
    inference_batch: int = 8
    repeats: int = 20
    matmul: int = 8192
    copy: int = 1 << 30
    reference: Size = (128, 256)
    warp: tuple[int, int, int] = (8, 1024, 2048)
    ladder: tuple[Size, int] = ((768, 768), 6)
    small_ladder: dict[str, Any] = dataclasses.field(default_factory=dict)
    video: Size = (1024, 2048)
    interval: int = 4
    files: tuple[int, Size] = (64, (512, 1024))
    crop: Size = (448, 896)
    camvid: dict[str, Any] = dataclasses.field(default_factory=dict)


_SMALL_LADDER = {"growth": 4, "blocks": (1, 1, 1, 1), "width": 8, "aux": False, "random_init": True, "spp": "none"}
TINY = Sizes(
    image=(64, 64),
    batch=2,
    inference_batch=2,
    repeats=2,
    matmul=128,
    copy=1 << 16,
    reference=(64, 64),
    warp=(1, 16, 32),
    ladder=((64, 64), 1),
    small_ladder=_SMALL_LADDER,
    video=(64, 64),
    interval=2,
    files=(8, (64, 96)),
    crop=(48, 64),
    camvid={
        "train.model.name": "ldn121",
        "train.model.options": {**_SMALL_LADDER, "layout": "32to4"},
        "train.init.weights": "",
        "train.normalisation": "imagenet",
        "train.optimizer.lr_rules": ((".*", 1.0),),
        "train.crop.size": (64, 64),
        "train.total_epochs": 1,
        "train.batch_size": 2,
    },
)


@dataclasses.dataclass(frozen=True)
class Context:
    """What a part is given.

    sizes: of its work.
    rehearsal: whether this is a rehearsal on the CPU, whose figures mean nothing.
    torch_python: a python that has torch; "" for none.
    camvid: the packed CamVid; "" for none.
    """

    sizes: Sizes
    rehearsal: bool
    torch_python: str
    camvid: str

    @property
    def dtype(self) -> str:
        """Type of the networks: bfloat16, which a CPU computes slowly."""
        return "float32" if self.rehearsal else "bfloat16"


class Skipped(Exception):
    """A part cannot run here, for the reason given; nothing is wrong with it."""
