"""Networks by name, in families whose members share one call signature.

A network is a linen module; it depends on no loss and no dataset.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.a_lite import ALite, FeatureState
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
from segjax.models.dis_warp import DisWarp
from segjax.models.encnet import encnet_r50, encnet_r101
from segjax.models.fastscnn import FastSCNN
from segjax.models.fcn import fcn_r50, fcn_r101
from segjax.models.flownet2 import FlowNet2
from segjax.models.flownets import FlowNet2S
from segjax.models.gsvnet import GSVNet
from segjax.models.icnet import icnet_r50
from segjax.models.ldn import ldn121, ldn161, ldn169, ldn_dpn68, ldn_efficientnet_lite0, lrn18, lrn50, lrn101
from segjax.models.ocr import hrnet_w18_ocr, hrnet_w48_ocr
from segjax.models.propagation import Copy, Warp
from segjax.models.pspnet import pspnet_r50, pspnet_r101
from segjax.models.remat import check_segments
from segjax.models.sdcnet import SDCNet2D
from segjax.models.swiftnet import swiftnet_efficientnet_lite0, swiftnet_r18, swiftnet_r18_pyramid
from segjax.models.trunks import trunk_pattern as trunk_pattern
from segjax.models.video_segmenter import VideoSegmenter, example_frames

# (variables, images (b, h, w, 3), train=False) -> SegOutput
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
    "ldn121": ldn121,
    "ldn161": ldn161,
    "ldn169": ldn169,
    "ldn_dpn68": ldn_dpn68,
    "ldn_efficientnet_lite0": ldn_efficientnet_lite0,
    "lrn18": lrn18,
    "lrn50": lrn50,
    "lrn101": lrn101,
    "pspnet_r50": pspnet_r50,
    "pspnet_r101": pspnet_r101,
    "swiftnet_efficientnet_lite0": swiftnet_efficientnet_lite0,
    "swiftnet_r18": swiftnet_r18,
    "swiftnet_r18_pyramid": swiftnet_r18_pyramid,
}


# (variables, images (b, t, h, w, 3), flows (b, t - 1, h, w, 2)) -> VideoOutput, see SDCNet2D
VIDEO_MODELS: dict[str, Callable[..., nn.Module]] = {
    "sdcnet2d": functools.partial(SDCNet2D, frames=2),
    "sdcnet2d_recon": functools.partial(SDCNet2D, frames=3),
}

# (variables, images a, images b) -> flow from a into b, all (b, h, w, c)
FLOW_MODELS: dict[str, Callable[..., nn.Module]] = {"flownet2": FlowNet2, "flownet2_s": FlowNet2S}

# (variables, state, image (b, h, w, 3), image before) -> state, see models/propagation.py
PROPAGATION_MODELS: dict[str, Callable[..., nn.Module]] = {
    "gsvnet": GSVNet,
    "copy": Copy,
    "warp": Warp,
    "warp_dis": DisWarp,
    "a_lite": ALite,
}


class Family(NamedTuple):
    """Family of networks that share one call signature.

    title: noun for one of them in error messages.
    networks: name -> constructor.
    inputs: module -> small arguments of its call, all zeros, to initialise it or to infer shapes.
    fixed: parameters that the name alone determines; they are no options.
    classes: whether a network is built for a number of classes.
    """

    title: str
    networks: Mapping[str, Callable[..., nn.Module]]
    inputs: Callable[[nn.Module], tuple[Any, ...]]
    fixed: tuple[str, ...] = ()
    classes: bool = False


def _one_image(module: nn.Module) -> tuple[Any, ...]:
    side = max(64, getattr(module, "smallest", 1))
    return (jnp.zeros((1, side, side, 3)),)


def _frames_and_flows(module: nn.Module) -> tuple[Any, ...]:
    return jnp.zeros((1, module.frames, 64, 64, 3)), jnp.zeros((1, module.frames - 1, 64, 64, 2))


def _two_images(module: nn.Module) -> tuple[Any, ...]:
    return jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64, 64, 3))


def _state_and_images(module: nn.Module) -> tuple[Any, ...]:
    state = jnp.zeros((1, *module.grid((64, 64)), module.num_classes))
    if isinstance(module, ALite):
        state = FeatureState(jnp.zeros((*state.shape[:3], module.feature_channels)), state)
    return (state, *_two_images(module))


FAMILIES: dict[str, Family] = {
    "image": Family("model", MODELS, _one_image, classes=True),
    "video": Family("video network", VIDEO_MODELS, _frames_and_flows, fixed=("frames",)),
    "flow": Family("flow network", FLOW_MODELS, _two_images),
    "propagation": Family("propagation network", PROPAGATION_MODELS, _state_and_images, classes=True),
}
_FROM_CODE = ("num_classes", "parent", "name")  # parameters that code passes, never a recipe


def family_of(name: str) -> str:
    """Returns the family of the network `name`, a key of FAMILIES. Raises UserError for an unknown name."""
    for kind, family in FAMILIES.items():
        if name in family.networks:
            return kind
    raise UserError(f"model {name!r} does not exist.{did_you_mean(name, MODELS)}")


def names() -> list[str]:
    """Returns the names that `create` accepts, sorted."""
    return sorted(MODELS)


def options(name: str, *, kind: str = "image") -> dict[str, object]:
    """Returns the options of the network `name` with their defaults.

    kind: a key of FAMILIES.
    Raises UserError for a name that the family does not contain.
    """
    family = FAMILIES[kind]
    if name not in family.networks:
        raise UserError(f"{family.title} {name!r} does not exist.{did_you_mean(name, family.networks)}")
    parameters = inspect.signature(family.networks[name]).parameters
    return {k: p.default for k, p in parameters.items() if k not in (*_FROM_CODE, *family.fixed)}


def create(name: str, num_classes: int, **options_: object) -> nn.Module:
    """Builds the network `name` with `num_classes` outputs; `options(name)` lists the accepted options.

    All networks have these options:
    dtype: type of the computation, "float32" or "bfloat16"; parameters, statistics and logits stay float32.
    bn_momentum: weight of the new batch in the running statistics.
    bn_eps: term added to the variance in batch norm.
    bn_groups: groups of images in a training batch that batch norm normalises by their own statistics.
    remat: what is computed again in the backward pass, which saves memory: True, or segments, see models/remat.py.
    Raises UserError for an unknown name or option, or an impossible value.
    """
    return _create("image", name, options_, num_classes=num_classes)


def create_video(name: str, **options_: object) -> nn.Module:
    """Builds the video network `name`.

    "sdcnet2d" predicts the next frame; "sdcnet2d_recon" reconstructs the last frame of its input.
    Options: width, levels, flow_mean, flow_std, init_as, dtype, remat, see `SDCNet2D`.
    Raises UserError for an unknown name or option, or an impossible value.
    """
    return _create("video", name, options_)


def create_flow(name: str, **options_: object) -> nn.Module:
    """Builds the optical flow network `name`; its options are dtype and, of "flownet2", width.

    Raises UserError for an unknown name or option, or an impossible value.
    """
    return _create("flow", name, options_)


def create_propagation(name: str, num_classes: int, **options_: object) -> nn.Module:
    """Builds the network `name` that carries coarse logits of `num_classes` from frame to frame.

    "gsvnet", or a baseline: "warp", "a_lite", and two without parameters: "copy", which keeps the labels of the
    keyframe, and "warp_dis", whose optical flow is that of OpenCV.
    Options: stride, flow, bgr, dtype, bn_momentum, bn_eps, bn_groups, remat of all; others: see `GSVNet` and `ALite`.
    Raises UserError for an unknown name or option, or an impossible value.
    """
    return _create("propagation", name, options_, num_classes=num_classes)


def from_spec(spec: Mapping[str, Any]) -> nn.Module:
    """Builds the network that a checkpoint describes.

    spec: {"name", "num_classes" (read for families with classes), "options"}; lists from JSON become tuples. A
        propagation network may have "keyframe": {"spec" of its network, "scale"}; the result is a `VideoSegmenter`.
    Raises UserError for an unknown name or option, or an impossible value.
    """
    kind = family_of(spec["name"])
    given = {"num_classes": spec["num_classes"]} if FAMILIES[kind].classes else {}
    module = _create(kind, spec["name"], spec["options"], **given)
    if keyframe := spec.get("keyframe"):
        return VideoSegmenter(from_spec(keyframe["spec"]), module, keyframe["scale"])
    return module


def example_inputs(spec: Mapping[str, Any], module: nn.Module) -> tuple[Any, ...]:
    """Returns small arguments for the call of a network, all zeros.

    module: the network that `from_spec(spec)` builds.
    Raises UserError for an unknown name.
    """
    if isinstance(module, VideoSegmenter):
        return example_frames(module)
    return FAMILIES[family_of(spec["name"])].inputs(module)


def _create(kind: str, name: str, options_: Mapping[str, object], **given: object) -> nn.Module:
    known, family = options(name, kind=kind), FAMILIES[kind]
    for key in options_:
        if key not in known:
            raise UserError(f"{family.title} {name!r} has no option {key!r}.{did_you_mean(key, known)}")
    check_options(family.networks[name], name, {**given, **options_})
    network = family.networks[name](**given, **_hashable(options_))
    if isinstance(getattr(network, "remat", False), str):
        loss = ("loss",) if kind == "image" else ()  # a segment of the training step of these networks
        check_segments(network.remat, (*network.remat_segments, *loss), network=name)
    return network


def _hashable(options_: Mapping[str, object]) -> dict[str, object]:
    """Returns the options with lists as tuples: JSON turns tuples into lists, and a linen module must be hashable."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options_.items()}
