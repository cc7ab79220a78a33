"""Ways to label the frames of a video, all with the same keyframe network: what a propagation is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from segjax import models
from segjax.errors import UserError, did_you_mean
from segjax.evaluation.snippets import MAIN, snippet_class_ids
from segjax.inference.network import Network, class_ids
from segjax.models.video_segmenter import VideoSegmenter
from segjax.typing import Array, Variables

BASELINES = ("every", "grid", "copy", "warp", "warp_dis")
EVERY_FRAME = "every frame"


@dataclasses.dataclass(frozen=True)
class System:
    """One way to label a video.

    name: for tables.
    predict: (variables, frames uint8 (b, t, h, w, 3)) -> name -> class ids, see `snippet_class_ids`. Of a system that
        labels every frame alone, MAIN only.
    variables: for it.
    network: for `StreamSegmenter`; None for a system that is no network of its own.
    module: both networks, None for a system that labels every frame alone.
    keyframe: spec of the keyframe network.
    normalisation: of the frames.
    scale: factor by which its keyframes are resized.
    between: spec of the network of the frames between keyframes; None for a system without, or that is no network.
    parameters: number of those beside the keyframe network's.
    series: name that it shares with systems that differ by their scale only; "" for none.
    """

    name: str
    predict: Callable[[Variables, Array], Mapping[str, Array]]
    variables: Variables
    network: Network | None
    module: VideoSegmenter | None
    keyframe: Mapping[str, Any]
    normalisation: str
    scale: float
    between: Mapping[str, Any] | None = None
    parameters: int = 0
    series: str = ""

    @property
    def guided(self) -> bool:
        """Returns whether edges of the warped labels guide its propagation."""
        return self.module is not None and self.module.propagation.guided_by_edges


def baselines(network: Network, names: Sequence[str], scales: Sequence[float]) -> list[System]:
    """Returns the systems that a trained propagation is compared with.

    network: of kind "propagation".
    names: some of BASELINES. "every": its keyframe network on every frame, at each of the scales. "grid": the same
        through the coarse grid, as at keyframes. "copy", "warp", "warp_dis": keyframes whose labels stay, move with
        the network's own light flow, or move with the flow of OpenCV.
    scales: factors by which frames are resized.

    Raises UserError for an unknown name.
    """
    for name in names:
        if name not in BASELINES:
            raise UserError(f"baselines: {name!r} is not known.{did_you_mean(name, BASELINES)}")
    found: list[System] = []
    for name in names:
        if name == "every":
            found += [every_frame(network, scale) for scale in scales]
        elif name == "grid":
            found.append(through_grid(network))
        else:
            found.append(propagated(with_propagation(network, name), name))
    return found


def propagated(network: Network, name: str) -> System:
    """Returns the system of a network of kind "propagation"."""
    predict = snippet_class_ids(network.module, network.normalisation)
    params = jax.tree.leaves(network.variables["params"].get("propagation", {}))
    module = network.module
    spec = None if module.propagation.full_frames else network.spec  # the flow of OpenCV is not counted
    count = sum(leaf.size for leaf in params)
    return System(name, predict, network.variables, network, module, *_facts(network), module.scale, spec, count)


def every_frame(network: Network, scale: float) -> System:
    """Returns the system that labels every frame alone, at a scale."""
    image = keyframe_of(network)
    label = class_ids(image.module, image.normalisation, scales=(scale,))

    def predict(variables: Variables, frames: Array) -> dict[str, Array]:
        return {MAIN: label(variables, frames[:, -1])}

    name = f"{EVERY_FRAME} at {scale:g}"
    return System(name, predict, image.variables, image, None, *_facts(network), scale, series=EVERY_FRAME)


def through_grid(network: Network) -> System:
    """Returns the system that labels every frame as a keyframe: at the keyframes' scale, and through the grid."""
    whole = snippet_class_ids(network.module, network.normalisation)

    def predict(variables: Variables, frames: Array) -> dict[str, Array]:
        return {MAIN: whole(variables, frames[:, -1:])[MAIN]}

    shown, scale = f"{EVERY_FRAME}, coarse grid", network.module.scale
    return System(shown, predict, network.variables, None, None, *_facts(network), scale)


def with_propagation(network: Network, name: str) -> Network:
    """Returns the network with another propagation, "copy", "warp" or "warp_dis"; that of "warp" has its own flow."""
    options = {key: network.spec["options"][key] for key in ("stride", "flow", "bgr") if key in network.spec["options"]}
    spec = {**network.spec, "name": name, "options": options}
    kept = ("ofnet",) if name == "warp" else ()
    variables = {
        collection: {**tree, "propagation": {key: x for key, x in tree.get("propagation", {}).items() if key in kept}}
        for collection, tree in network.variables.items()
    }
    if name == "warp" and not variables["params"]["propagation"]:
        raise UserError(f"baselines: {network.spec['name']} has no flow network to warp with; leave out 'warp'.")
    return dataclasses.replace(network, spec=spec, module=models.from_spec(spec), variables=variables)


def with_keyframe_of(network: Network, image: Network) -> Network:
    """Returns a network of kind "propagation" with another network for its keyframes.

    Raises UserError for other classes, and for images that are normalised otherwise.
    """
    one, other = (None if x.label_map is None else tuple(x.label_map.class_names) for x in (network, image))
    if one != other:
        raise UserError(
            f"the keyframe network has the classes {', '.join(other or ())}, and the propagation network was trained "
            f"for {', '.join(one or ())}; train one of them in the classes of the other."
        )
    if image.normalisation != network.normalisation:
        raise UserError(
            f"the keyframe network reads images normalised as {image.normalisation!r}, and the propagation network as "
            f"{network.normalisation!r}; train one of them with the normalisation of the other."
        )
    spec = {**network.spec, "keyframe": {**network.spec["keyframe"], "spec": image.spec}}
    variables = {
        name: {"keyframe": image.variables.get(name, {}), "propagation": network.variables[name]["propagation"]}
        for name in ("params", "batch_stats")
    }
    return dataclasses.replace(network, spec=spec, module=models.from_spec(spec), variables=variables)


def keyframe_of(network: Network) -> Network:
    """Returns the keyframe network of a network of kind "propagation"."""
    spec = network.spec["keyframe"]["spec"]
    variables = {name: tree["keyframe"] for name, tree in network.variables.items() if "keyframe" in tree}
    return dataclasses.replace(network, spec=spec, module=network.module.keyframe, variables=variables)


def _facts(network: Network) -> tuple[Mapping[str, Any], str]:
    """Returns (spec of the keyframe network, normalisation)."""
    return network.spec["keyframe"]["spec"], network.normalisation
