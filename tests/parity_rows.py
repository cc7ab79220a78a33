"""Networks that are compared with the published PyTorch networks, with their tolerances. A new network adds one row."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from segjax import models
from segjax.ops import resize
from tests.parity_tools import heads_of


class Row(NamedTuple):
    """tolerances: eval outputs, train outputs, train gradients, of max|reference|, in float32."""

    name: str
    folder: str
    tolerances: tuple[float, float, float]
    options: dict
    num_classes: int = 19
    unused: str = "^$"  # published tensors that the network does not have
    added: str = "^$"  # and tensors that only ours has
    quick: bool = False
    heads: Callable = heads_of  # the published outputs, made of ours
    buffers: float = 1e-5
    train_heads: Callable | None = None  # where training has other outputs; None for heads
    stored: bool = True  # with a small case in tests/fixtures; its siblings have none


def bisenet_heads(output):
    """The stored main head is at 1/8; the others grow by 16 and 8 whatever the size of the image."""
    low = {name[4:]: y for name, y in output.features.items() if name.startswith("low.")}
    grown = {
        name: resize(y, (factor * y.shape[1], factor * y.shape[2]), align_corners=True)
        for name, y, factor in (("aux16", low["aux16"], 16), ("aux8", low["aux8"], 8))
    }
    if output.logits.shape[1] % 32 == output.logits.shape[2] % 32 == 0:
        grown = {name: output.aux[name] for name in grown}
    return {"logits": low["logits"]} | grown


def main_head(output):
    return {"logits": output.logits}


def largest_scale(output):
    return {"max": output.features["max"]}


def all_scales(output):
    scales = {"logits" if name == "logits100" else name: y for name, y in output.aux.items()}
    return scales | largest_scale(output)


def icnet_heads(output):
    low = {"out1": output.features["low.logits"], "out2": output.aux["aux8"], "out3": output.aux["aux16"]}
    return {"out0": output.logits} | low


def quarter_size(output):
    return {"logits": output.features["low.logits"], "aux": output.features["low.aux"]}


def ladder_heads(output):
    """Coarse to fine; the released code has no heads on the levels of its pyramid."""
    strides = sorted((int(name[3:]) for name in output.aux if name[3:].isdecimal()), reverse=True)
    return {"logits": output.logits} | {f"aux{i}": output.aux[f"aux{stride}"] for i, stride in enumerate(strides)}


ldn = partial(Row, heads=ladder_heads, added=r"^spp\.spp\.aux\d")
released, plain = (dict(layout="32to4", form=form) for form in ("released", "paper"))
ROWS = [
    ldn("ldn121", "ldn121_32to4", (1e-5, 3e-4, 1e-2), released, stored=False),
    ldn("ldn121", "ldn121_32to4_plain", (1e-5, 2e-4, 2e-2), plain, stored=False),
    ldn("ldn121", "ldn121_64to4", (1e-5, 4e-4, 2e-2), dict(form="released")),
    ldn("ldn121", "ldn121_64to4_plain", (1e-5, 3e-4, 2e-2), {}),
    ldn("ldn161", "ldn161_32to4", (1e-5, 3e-4, 9e-3), released, stored=False),
    ldn("ldn161", "ldn161_64to4", (1e-5, 5e-4, 1e-2), dict(form="released"), stored=False),
    ldn("ldn161", "ldn161_64to4_plain", (1e-5, 3e-4, 1e-2), {}, stored=False),
    ldn("ldn169", "ldn169_32to4", (1e-5, 3e-4, 2e-2), released, stored=False),
    ldn("ldn169", "ldn169_32to4_plain", (1e-5, 2e-4, 2e-2), plain, stored=False),
    ldn("ldn169", "ldn169_64to4", (1e-5, 5e-4, 3e-2), dict(form="released"), stored=False),
    Row("fastscnn", "fastscnn", (1e-5, 2e-4, 6e-3), dict(aux=True), quick=True),
    Row("deeplabv2_r101", "deeplabv2_r101", (1e-5, 5e-5, 1e-2), {}, 21, heads=largest_scale, train_heads=all_scales),
    Row("deeplabv3_r101", "deeplabv3_r101", (1e-5, 2e-4, 8e-3), dict(head_dropout=0.0), 21),
    Row(
        "deeplabv3_r101",
        "deeplabv3_r101_tramac",
        (2e-5, 5e-4, 3e-2),
        dict(form="encoding", head_dropout=0.0),
        unused=r"^pretrained\.fc\.",
    ),
    Row("deeplabv3plus_r50", "deepv3plus_r50", (1e-5, 8e-5, 9e-3), {}),
    Row("deeplabv3plus_srnx50", "deepv3plus_srnx50", (1e-5, 8e-5, 6e-3), {}),
    Row("deeplabv3plus_srnx101", "deepv3plus_srnx101", (1e-5, 8e-5, 7e-3), {}),
    Row("deeplabv3plus_wrn38", "deepv3plus_wrn38", (2e-5, 5e-5, 7e-3), dict(trunk_dropout=())),
    Row("pspnet_r101", "pspnet_r101", (2e-5, 2e-4, 1e-2), {}, heads=main_head, train_heads=heads_of),
    Row("bisenet_r18", "bisenet_r18", (1e-5, 3e-4, 8e-2), {}, heads=bisenet_heads, buffers=3e-5),
    Row("bisenet_r18_coincheung", "bisenetv1_coincheung", (2e-5, 2e-3, 3e-2), {}, buffers=3e-5),
    Row("encnet_r50", "encnet_r50", (1e-5, 7e-5, 4e-3), {}, unused=r"^pretrained\.fc\."),
    Row("encnet_r101", "encnet_r101_lateral", (1e-5, 1e-4, 6e-3), dict(lateral=True), 21, unused=r"^pretrained\.fc\."),
    Row("hrnet_w48_ocr", "hrnet_w48_ocr", (1e-5, 3e-4, 4e-2), {}, heads=quarter_size),
    Row("icnet_r50", "icnet_r50", (4e-5, 9e-4, 2e-2), {}, unused=r"^pretrained\.fc\.", heads=icnet_heads, buffers=3e-5),
    Row("swiftnet_r18", "swiftnet_r18", (2e-5, 5e-5, 1e-3), {}, unused=r"img_(mean|std)$"),
    Row("swiftnet_r18_pyramid", "swiftnet_r18_pyramid", (1e-5, 5e-5, 4e-2), {}, unused=r"img_(mean|std)$"),
]
# Compared once with a build of the published layers in PyTorch, in evaluation and training; the fixture is kept
MMSEG = [
    Row("pspnet_r50", "pspnet_r50_mmseg", (1e-5, 0, 0), dict(form="mmseg"), quick=True),
    Row("pspnet_r50", "pspnet_r50_mmseg_b_769", (1e-5, 0, 0), dict(form="mmseg_b", align_corners=True)),
    Row("deeplabv3plus_r50_mmseg", "deeplabv3plus_r50_mmseg", (1e-5, 0, 0), {}, quick=True),
    Row(
        "deeplabv3plus_r101_mmseg",
        "deeplabv3plus_r101_mmseg_d16",
        (1e-5, 0, 0),
        dict(output_stride=16, multi_grid=(1, 2, 4), align_corners=True),
    ),
]


def build(row: Row, **options):
    return models.create(row.name, row.num_classes, **row.options, **options)
