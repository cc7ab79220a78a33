"""Labels of a stream of frames: keyframes are labelled by the whole network, the frames between by a propagation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment
from segjax.errors import UserError
from segjax.inference.keyframes import LONGEST, USUAL_INTERVAL, Keyframes, unexplained_difference
from segjax.inference.labels import Labels
from segjax.inference.network import Network, class_ids
from segjax.inference.views import is_one_view
from segjax.ops import resize, resize_argmax
from segjax.typing import Array, Variables


@dataclasses.dataclass(frozen=True)
class Programs:
    """Compiled programs for frames of one size; frame: uint8 (h, w, 3).

    key: (variables, frame) -> (memory, ids).
    step: (variables, frame, memory of the frame before) -> (memory, ids, grey levels that the flow does not explain, or
        None); None without propagation.

    memory: what the next frame needs, on the device. ids: (h, w) class ids.
    """

    key: Callable[..., Any]
    step: Callable[..., Any] | None


@dataclasses.dataclass
class StreamCounts:
    """What a stream has labelled: frames, how many of them were keyframes, and changes of the frames' size."""

    frames: int = 0
    keyframes: int = 0
    resets: int = 0


class StreamSegmenter:
    """Labels frames in their order: uint8 (h, w, 3), RGB -> class ids uint8 (h, w), int32 for 256 classes or more.

    Its state stays on the device, and only ids are fetched. A frame of another size than the one before starts anew
    with a keyframe. The programs for a size are compiled when its first frame comes, or by `prepare`.

    network: of kind "propagation", or "image" for interval 1: every frame is a keyframe.
    interval, max_interval: see `Keyframes`.
    scale: factor by which an image network's frames are resized.

    counts: see `StreamCounts`.
    Raises UserError as `Keyframes` does, for an interval other than 1 without propagation, and for a scale with it.
    """

    def __init__(self, network: Network, interval: int | str, *, max_interval: int = LONGEST, scale: float = 1.0):
        self._keyframes = Keyframes(interval, max_interval)
        if not self._keyframes.every and not network.has_keyframes:
            raise UserError(
                f"interval={interval} needs a network that carries labels on, and {network.spec['name']} labels single "
                "images; give a run of a stage of kind train_gsvnet, or interval=1."
            )
        if network.has_keyframes and scale != 1:
            raise UserError(f"scale={scale} is of image networks; {network.spec['name']} has its own keyframe.scale.")
        self.network, self.counts, self._scale = network, StreamCounts(), scale
        self._programs: dict[tuple[int, int], Programs] = {}
        self._size: tuple[int, int] | None = None
        self._memory: Any = None

    def reset(self) -> None:
        """Makes the next frame a keyframe, as at the start of another video."""
        self._memory = None
        self._keyframes.restart()

    def prepare(self, size: tuple[int, int]) -> None:
        """Compiles the programs for frames of (h, w); does nothing if that has been done."""
        if tuple(size) not in self._programs:
            if self.network.has_keyframes:
                programs = video_programs(self.network, tuple(size), compare=self._keyframes.auto)
            else:
                programs = image_programs(self.network, tuple(size), self._scale)
            self._programs[tuple(size)] = programs

    def start(self, frame: np.ndarray) -> jax.Array:
        """Starts labelling a frame, and returns its ids on the device, perhaps before they are computed.

        Raises UserError for a frame that is no uint8 (h, w, 3).
        """
        if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
            raise UserError(f"a frame of shape {frame.shape}, {frame.dtype}, is no uint8 (height, width, 3).")
        size = tuple(frame.shape[:2])
        if self._size not in (None, size):
            self.counts.resets += 1
            self.reset()
        self._size = size
        self.prepare(size)
        programs, variables = self._programs[size], self.network.variables
        keyframe = self._keyframes.due(frame)
        if not keyframe:
            self._memory, ids, left = programs.step(variables, frame, self._memory)
            keyframe = left is not None and self._keyframes.doubtful(left)
        if keyframe:
            self._memory, ids = programs.key(variables, frame)
        self._keyframes.took(keyframe)
        self.counts.frames += 1
        self.counts.keyframes += keyframe
        return ids

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Returns the class ids (h, w) of the next frame. Raises UserError as `start` does."""
        return np.asarray(self.start(frame))

    def labels(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the class ids of each frame; the next frame is started before the ids of one are fetched."""
        before = None
        for frame in frames:
            ids = self.start(frame)
            if before is not None:
                yield np.asarray(before)
            before = ids
        if before is not None:
            yield np.asarray(before)


def image_programs(network: Network, size: tuple[int, int], scale: float = 1.0) -> Programs:
    """Compiles the program of an image network for frames of (h, w), which are resized by `scale`."""
    label = class_ids(network.module, network.normalisation, scales=(scale,))

    def key(variables: Variables, frame: Array) -> tuple[tuple[()], Array]:
        return (), label(variables, frame[None])[0]

    return Programs(_compiled(key, network.variables, _frame(size)), None)


def video_programs(network: Network, size: tuple[int, int], *, compare: bool = False) -> Programs:
    """Compiles the programs of a keyframe network and its propagation for frames of (h, w).

    compare: whether a step compares the frame with the one before, see `Programs`.
    """
    module, (mean, std) = network.module, augment.normalisation(network.normalisation)
    grid, full = module.grid(size), module.propagation.full_frames
    grey = jnp.ones(3) if full else 255 * jnp.asarray(std)  # of one unit of what is read

    def what_is_read(frame: Array) -> Array:
        """Returns what the propagation reads of a frame."""
        if full:
            return frame[None].astype(jnp.float32)
        # resized first: only the pixels that the grid reads are normalised
        return augment.normalise(resize(frame[None], grid, align_corners=True), mean=mean, std=std)

    def finish(variables: Variables, state: Any, read: Array) -> tuple[Any, Array]:
        logits = module.apply(variables, state, method="logits")
        return (state, read), resize_argmax(logits, size, align_corners=True)[0]

    def key(variables: Variables, frame: Array) -> tuple[Any, Array]:
        image = augment.normalise(frame[None], mean=mean, std=std)
        return finish(variables, module.apply(variables, image, method="start"), what_is_read(frame))

    def step(variables: Variables, frame: Array, memory: Any) -> tuple[Any, Array, Array | None]:
        (state, before), read = memory, what_is_read(frame)
        apply = partial(module.apply, variables, state, read, before, method="step")
        if not compare:
            return *finish(variables, apply(), read), None
        state, between = apply(mutable=["intermediates"])
        return *finish(variables, state, read), unexplained_difference(between, read, before, grey)

    memory = jax.eval_shape(key, network.variables, _frame(size))[0]
    # the memory is donated: the next frame replaces it
    return Programs(
        _compiled(key, network.variables, _frame(size)),
        _compiled(step, network.variables, _frame(size), memory, donate=(2,)),
    )


def _frame(size: tuple[int, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*size, 3), jnp.uint8)


def _compiled(function: Callable[..., Any], *arguments: Any, donate: tuple[int, ...] = ()) -> Callable[..., Any]:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    return jax.jit(function, donate_argnums=donate).lower(*shapes).compile()


class FrameLabeller:
    """Labels frames as `Network.labeller` does, but one after the other, in their order, from keyframes.

    network: of kind "propagation".
    interval: see `StreamSegmenter`.
    views: keyword arguments of `views.predict`; keyframes have one view only.

    Raises UserError for a wrong interval, and for several views.
    """

    def __init__(self, network: Network, interval: int | str, **views: Any):
        if not is_one_view(**views):
            raise UserError(
                f"{network.spec['name']} labels video from keyframes, each in one view; leave out --flip, --window and "
                "--scales, or give the keyframe network."
            )
        self._stream, self._related = StreamSegmenter(network, interval), True

    def begin(self, related: bool) -> None:
        """Starts with a keyframe; related: whether the frames are those of a video. Others are all keyframes."""
        self._stream.reset()
        self._related = related

    def __call__(self, images: Array) -> Labels:
        """Returns the labels of the next frames, uint8 (b, h, w, 3)."""
        ids = []
        for image in images:
            if not self._related:
                self._stream.reset()
            ids.append(self._stream.start(image))
        return Labels(jnp.stack(ids))


def frame_labeller(
    network: Network, interval: int | str | None, batch: int | None = None, **views: Any
) -> FrameLabeller | None:
    """Returns the labeller of a network that labels video from keyframes, None for an image network.

    interval: of keyframes, None for USUAL_INTERVAL.
    batch: images at once, as a command was told; None for no wish.
    views: see `FrameLabeller`.
    Raises UserError as `FrameLabeller` does, for a batch, and for an interval without such a network.
    """
    if network.has_keyframes:
        if batch not in (None, 1):
            raise UserError(
                f"{network.spec['name']} labels frames one after the other, so that --batch={batch} has no meaning; "
                "leave it out."
            )
        return FrameLabeller(network, interval or USUAL_INTERVAL, **views)
    if interval is not None:
        StreamSegmenter(network, interval)
    return None
