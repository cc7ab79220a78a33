"""Networks by name. A network is a linen module: apply(variables, images (b, h, w, 3), train=False) -> SegOutput."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import flax.linen as nn

from segjax.errors import UserError, did_you_mean
from segjax.models.bisenet import bisenet_r18, bisenet_r18_coincheung
from segjax.models.checks import check_options
from segjax.models.deeplabv2 import deeplabv2_r101
from segjax.models.deeplabv3 import deeplabv3_r50, deeplabv3_r101
from segjax.models.deeplabv3plus import (
    deeplabv3plus_efficientnet_lite0,
    deeplabv3plus_efficientnet_lite1,
    deeplabv3plus_efficientnet_lite2,
    deeplabv3plus_mobilenet_v2,
    deeplabv3plus_r18,
    deeplabv3plus_r50,
    deeplabv3plus_r101,
    deeplabv3plus_rnx50,
    deeplabv3plus_srnx50,
    deeplabv3plus_srnx101,
    deeplabv3plus_wrn38,
)
from segjax.models.deeplabv3plus_mmseg import deeplabv3plus_r50_mmseg, deeplabv3plus_r101_mmseg
from segjax.models.encnet import encnet_r50, encnet_r101
from segjax.models.fastscnn import FastSCNN
from segjax.models.fcn import fcn_r50, fcn_r101
from segjax.models.flownets import FlowNet2S
from segjax.models.icnet import icnet_r50
from segjax.models.ocr import hrnet_w18_ocr, hrnet_w48_ocr
from segjax.models.pspnet import pspnet_r50, pspnet_r101
from segjax.models.sdcnet import SDCNet2D
from segjax.models.swiftnet import swiftnet_efficientnet_lite0, swiftnet_r18, swiftnet_r18_pyramid
from segjax.models.trunks import trunk_pattern as trunk_pattern

MODELS: dict[str, Callable[..., nn.Module]] = {
    "bisenet_r18": bisenet_r18,
    "bisenet_r18_coincheung": bisenet_r18_coincheung,
    "deeplabv2_r101": deeplabv2_r101,
    "deeplabv3_r50": deeplabv3_r50,
    "deeplabv3_r101": deeplabv3_r101,
    "deeplabv3plus_efficientnet_lite0": deeplabv3plus_efficientnet_lite0,
    "deeplabv3plus_efficientnet_lite1": deeplabv3plus_efficientnet_lite1,
    "deeplabv3plus_efficientnet_lite2": deeplabv3plus_efficientnet_lite2,
    "deeplabv3plus_mobilenet_v2": deeplabv3plus_mobilenet_v2,
    "deeplabv3plus_r18": deeplabv3plus_r18,
    "deeplabv3plus_r50": deeplabv3plus_r50,
    "deeplabv3plus_r50_mmseg": deeplabv3plus_r50_mmseg,
    "deeplabv3plus_r101": deeplabv3plus_r101,
    "deeplabv3plus_r101_mmseg": deeplabv3plus_r101_mmseg,
    "deeplabv3plus_rnx50": deeplabv3plus_rnx50,
    "deeplabv3plus_srnx50": deeplabv3plus_srnx50,
    "deeplabv3plus_srnx101": deeplabv3plus_srnx101,
    "deeplabv3plus_wrn38": deeplabv3plus_wrn38,
    "encnet_r50": encnet_r50,
    "encnet_r101": encnet_r101,
    "fastscnn": FastSCNN,
    "fcn_r50": fcn_r50,
    "fcn_r101": fcn_r101,
    "hrnet_w18_ocr": hrnet_w18_ocr,
    "hrnet_w48_ocr": hrnet_w48_ocr,
    "icnet_r50": icnet_r50,
    "pspnet_r50": pspnet_r50,
    "pspnet_r101": pspnet_r101,
    "swiftnet_efficientnet_lite0": swiftnet_efficientnet_lite0,
    "swiftnet_r18": swiftnet_r18,
    "swiftnet_r18_pyramid": swiftnet_r18_pyramid,
}


def names() -> list[str]:
    """Names that `create` accepts, sorted."""
    return sorted(MODELS)


def options(name: str) -> dict[str, object]:
    """Options of the network `name` with their defaults."""
    if name not in MODELS:
        raise UserError(f"model {name!r} does not exist.{did_you_mean(name, MODELS)}")
    parameters = inspect.signature(MODELS[name]).parameters
    return {k: p.default for k, p in parameters.items() if k not in ("num_classes", "parent", "name")}


def create(name: str, num_classes: int, **options_: object) -> nn.Module:
    """The network `name` with `num_classes` outputs; `options(name)` lists what else it takes.

    Common options: dtype ("float32" | "bfloat16", of the computation; parameters, statistics and logits stay float32),
    bn_momentum (weight of the new batch), bn_eps, remat (recompute activations in the backward pass).
    Raises UserError for an unknown name or option, or an impossible value.
    """
    known = options(name)
    for key in options_:
        if key not in known:
            raise UserError(f"model {name!r} has no option {key!r}.{did_you_mean(key, known)}")
    check_options(MODELS[name], name, {"num_classes": num_classes, **options_})
    return MODELS[name](num_classes=num_classes, **_hashable(options_))


def _hashable(options_: dict[str, object]) -> dict[str, object]:
    """Lists, which is what JSON makes of tuples, as tuples: a linen module must be hashable."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options_.items()}


# (variables, images (b, t, h, w, 3), flows (b, t - 1, h, w, 2)) -> VideoOutput, see SDCNet2D
VIDEO_MODELS: dict[str, Callable[..., nn.Module]] = {
    "sdcnet2d": functools.partial(SDCNet2D, frames=2),
    "sdcnet2d_recon": functools.partial(SDCNet2D, frames=3),
}

# (variables, images a, images b) -> flow from a into b, all (b, h, w, c)
FLOW_MODELS: dict[str, Callable[..., nn.Module]] = {"flownet2_s": FlowNet2S}


def create_video(name: str, **options_: object) -> nn.Module:
    """The video network `name`: "sdcnet2d" predicts the next frame, "sdcnet2d_recon" reconstructs the last one given.

    Options: width, levels, flow_mean, flow_std, init_as, dtype, remat, see `SDCNet2D`. UserError for an unknown name
    or option.
    """
    return _create(VIDEO_MODELS, "video network", name, options_, fixed=("frames",))


def create_flow(name: str, **options_: object) -> nn.Module:
    """The optical flow network `name`; options: dtype. UserError for an unknown name or option."""
    return _create(FLOW_MODELS, "flow network", name, options_)


def _create(table, kind: str, name: str, options_: dict[str, object], fixed: tuple[str, ...] = ()) -> nn.Module:
    if name not in table:
        raise UserError(f"{kind} {name!r} does not exist.{did_you_mean(name, table)}")
    known = set(inspect.signature(table[name]).parameters) - {"parent", "name", *fixed}
    for key in options_:
        if key not in known:
            raise UserError(f"{kind} {name!r} has no option {key!r}.{did_you_mean(key, known)}")
    check_options(table[name], name, options_)
    return table[name](**_hashable(options_))
