"""Sequences of frames: a pure function of (settings, split, number of the sequence)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import cv2
import numpy as np

from data_builders.synthetic_street.engine.render import Renderer
from data_builders.synthetic_street.engine.world import Town
from data_builders.synthetic_street.street import build_street
from data_builders.synthetic_street.town import paint_town
from segjax.errors import UserError

SPLITS = ("train", "validation", "test")
_SEQUENCES_PER_TOWN = 16


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that determine the dataset.

    seed: of all that is random.
    height, width: in pixels.
    sequences: number of sequences of train, validation and test.
    frames: of a sequence.
    labelled_every: every n-th frame is labelled, beginning with frame n // 2, so that a labelled frame has neighbours
        on both sides.
    noise: standard deviation of the sensor noise at mid grey, for grey levels 0..255.
    """

    seed: int = 0
    height: int = 128
    width: int = 256
    sequences: tuple[int, int, int] = (70, 15, 15)
    frames: int = 9
    labelled_every: int = 3
    noise: float = 4.0

    def check(self) -> Settings:
        """Returns the settings. Raises UserError for values that make no video."""
        least = {"seed": 0, "height": 32, "width": 32, "frames": 1, "labelled_every": 1, "noise": 0}
        for key, low in least.items():
            if getattr(self, key) < low:
                raise UserError(f"synthetic_street: {key} is {getattr(self, key)}; give at least {low}")
        if min(self.sequences) < 0 or not any(self.sequences):
            raise UserError(f"synthetic_street: {self.sequences} sequences; give at least one for one of {SPLITS}")
        if self.labelled_every // 2 >= self.frames:
            raise UserError(
                f"synthetic_street: labelled_every {self.labelled_every} leaves none of {self.frames} frames labelled; "
                "give more frames"
            )
        return self


@dataclasses.dataclass
class Frame:
    """One frame of a sequence.

    image: (h, w, 3) uint8 RGB.
    clean: (h, w, 3) float32, the image without noise and rounding.
    label: (h, w) uint8 train ids, 255 = ignored.
    flow: (h, w, 2) float32. Pixel (x, y) is at (x + u, y + v) in the previous frame; exact for invisible pixels too.
    visible: (h, w) bool, whether that place is inside the previous frame and not hidden in it.
    sequence, frame: numbers, from 0.
    labelled: whether a training may use the label.

    The first frame of a sequence has flow 0 and no visible pixel.
    """

    image: np.ndarray
    clean: np.ndarray
    label: np.ndarray
    flow: np.ndarray
    visible: np.ndarray
    sequence: int
    frame: int
    labelled: bool


@functools.lru_cache(maxsize=len(SPLITS))  # a town has 100 MB; a process that builds several streets needs each again
def _town(seed: int, split: int, number: int) -> Town:
    return paint_town(np.random.default_rng([seed, split, number, 1]))


def frames(settings: Settings, split: str, sequence: int) -> Iterator[Frame]:
    """Yields the frames of one sequence of a split."""
    s = SPLITS.index(split)
    town = _town(settings.seed, s, sequence // _SEQUENCES_PER_TOWN)
    rng = np.random.default_rng([settings.seed, s, sequence, 2])
    renderer = Renderer(build_street(rng, town, height=settings.height, width=settings.width))
    sensor = np.random.default_rng([settings.seed, s, sequence, 3])
    before = None
    for t in range(settings.frames):
        view = renderer.view(float(t))
        light = renderer.shade(view)
        if before is None:
            gain = renderer.exposure(light)
            flow, visible = np.zeros((*light.shape[:2], 2), np.float32), np.zeros(light.shape[:2], bool)
        else:
            flow, visible = renderer.flow(view, before)
        clean = renderer.develop(light, gain)
        yield Frame(
            image=_sensor(sensor, clean, settings.noise),
            clean=clean,
            label=renderer.labels(view),
            flow=flow,
            visible=visible,
            sequence=sequence,
            frame=t,
            labelled=t % settings.labelled_every == settings.labelled_every // 2,
        )
        before = view


def _sensor(rng: np.random.Generator, clean: np.ndarray, noise: float) -> np.ndarray:
    """Returns the image with shot and read noise, in 8 bits; variance 0.4 noise^2 in the dark, noise^2 at mid grey."""
    sigma = noise * np.sqrt(0.4 + 0.6 * clean / 128)
    return np.clip(np.rint(clean + sigma * rng.standard_normal(clean.shape, dtype=np.float32)), 0, 255).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """Returns PNG bytes of an image, (h, w), (h, w, 1) or (h, w, 3) RGB, uint8 or uint16."""
    if image.ndim == 3 and image.shape[-1] == 3:
        image = image[..., ::-1]
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def round_flow(flow: np.ndarray) -> np.ndarray:
    """Returns the flow as it is stored, rounded to 1/256 pixel, which takes a third of the space."""
    return (np.rint(flow * 256) / 256).astype(np.float32)
