"""The items, in order of priority. A new one is a file with `measure(part, context)`, and a row here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

NETWORKS = ("deeplabv3plus_r50", "fastscnn", "deeplabv3_r50", "fcn_r50")


@dataclasses.dataclass(frozen=True)
class Item:
    """Parts of one item that follow each other; an item may have several rows, of different priority.

    name: of its file in this folder.
    title: of its table.
    parts: name -> seconds that it may take, its compilation included; a guess, to decide what still fits.
    tiny: parts of the rehearsal on a CPU.
    alone: each part in a process of its own, for peaks of memory that a process does not forget.
    """

    name: str
    title: str
    parts: Mapping[str, int]
    tiny: tuple[str, ...]
    alone: bool = False


def _each(seconds: int, *names: str) -> dict[str, int]:
    return dict.fromkeys(names, seconds)


START = 12  # seconds of a process before its first part: imports, and the device's start
ITEMS = (
    Item(
        "parity",
        "Networks against stored outputs of the published ones, float32",
        # one network of each family, small ones first
        _each(8, "fastscnn", "swiftnet_r18", "bisenet_r18", "deepv3plus_r50", "pspnet_r50_mmseg")
        | _each(12, "icnet_r50", "encnet_r50", "ldn121_64to4", "deeplabv2_r101", "deeplabv3_r101", "hrnet_w48_ocr"),
        ("fastscnn",),
    ),
    Item("limits", "What the device reaches", {"matmul": 8, "copy": 6}, ("matmul", "copy")),
    Item(
        "precision",
        "Errors of float32, TF32 and bfloat16 against float64",
        _each(25, "fastscnn", "swiftnet_r18", "deepv3plus_r50", "ldn121_64to4"),
        ("fastscnn",),
    ),
    Item(
        "peers",
        "Images per second beside PyTorch",
        {f"{name} training": 75 for name in NETWORKS[:2]} | {f"{name} inference": 40 for name in NETWORKS[:2]},
        ("fastscnn inference",),
    ),
    Item(
        "relaxation",
        "Label relaxation as a multiple of cross entropy",
        {"alone": 20, "in a step of fastscnn": 60},
        ("alone",),
    ),
    Item("warp", "Warps beside a copy of as many bytes", _each(8, "3 channels", "20 channels"), ("3 channels",)),
    Item(
        "memory",
        "Memory of a training step of Ladder DenseNets, with and without recomputation",
        _each(50, "ldn121", "ldn121 layer+stem+td+up", "ldn121 layer+stem+td+up+spp+head+loss"),
        ("ldn121", "ldn121 layer+stem+td+up"),
        alone=True,
    ),
    Item(
        "stream",
        "Frames per second of labels propagated from keyframes",
        _each(45, "swiftnet_r18", "deeplabv3plus_r50"),
        ("fastscnn",),
    ),
    Item("loading", "Images per second of the input pipeline", {"host": 20, "augmentation": 20}, ("host",)),
    Item("camvid", "CamVid by EfficientNet-Lite0", {"training": 150}, ("training",)),
    Item(
        "peers",
        "Images per second beside PyTorch",
        {f"{name} training": 75 for name in NETWORKS[2:]} | {f"{name} inference": 40 for name in NETWORKS[2:]},
        (),
    ),
)
