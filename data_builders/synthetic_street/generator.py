"""Sequences of the synthetic street: a pure function of (settings, split, sequence number)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import cv2
import numpy as np

from data_builders.synthetic_street.render import Renderer
from data_builders.synthetic_street.street import build_street
from data_builders.synthetic_street.town import Town, paint_town

SPLITS = ("train", "validation", "test")
_SEQUENCES_PER_TOWN = 10
_FLOW_UNITS, _FLOW_ZERO = 64.0, 32768.0  # KITTI: 1/64 pixel in 16 bits


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the dataset depends on. height, width in pixels; noise: standard deviation of the sensor noise at mid grey, 0..255.

    sequences: for train, validation, test. Of `frames` frames every `labelled_every`-th is marked labelled, the first of
    them at labelled_every // 2, so that a labelled frame has neighbours on both sides.
    """

    seed: int = 0
    height: int = 128
    width: int = 256
    sequences: tuple[int, int, int] = (60, 16, 16)
    frames: int = 12
    labelled_every: int = 3
    noise: float = 4.0


@dataclasses.dataclass
class Frame:
    """image uint8 (h, w, 3) RGB; clean float32 (h, w, 3) the same without noise and rounding; label uint8 (h, w), 255 = ignore.

    flow float32 (h, w, 2): pixel (x, y) lies at (x + u, y + v) in the frame before; exact also where visible (h, w) is false,
    that is hidden there or outside. The first frame of a sequence has zero flow and nothing visible.
    """

    image: np.ndarray
    clean: np.ndarray
    label: np.ndarray
    flow: np.ndarray
    visible: np.ndarray
    sequence: int
    frame: int
    labelled: bool


@functools.lru_cache(maxsize=2)
def _town(seed: int, split: int, number: int) -> Town:
    return paint_town(np.random.default_rng([seed, split, number, 1]))


def frames(settings: Settings, split: str, sequence: int) -> Iterator[Frame]:
    """Renders one sequence of a split, frame by frame."""
    s = SPLITS.index(split)
    town = _town(settings.seed, s, sequence // _SEQUENCES_PER_TOWN)
    rng = np.random.default_rng([settings.seed, s, sequence, 2])
    renderer = Renderer(build_street(rng, town, height=settings.height, width=settings.width))
    sensor = np.random.default_rng([settings.seed, s, sequence, 3])
    before = None
    for t in range(settings.frames):
        view = renderer.view(float(t))
        clean = renderer.shade(view)
        if before is None:
            flow, visible = np.zeros((*clean.shape[:2], 2), np.float32), np.zeros(clean.shape[:2], bool)
        else:
            flow, visible = renderer.flow(view, before)
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
    """Shot and read noise, then 8 bits: the variance is 0.4 noise^2 in the dark and noise^2 at mid grey."""
    sigma = noise * np.sqrt(0.4 + 0.6 * clean / 128)
    return np.clip(np.rint(clean + sigma * rng.standard_normal(clean.shape, dtype=np.float32)), 0, 255).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of uint8 or uint16 (h, w), (h, w, 1) or (h, w, 3) RGB."""
    if image.ndim == 3 and image.shape[-1] == 3:
        image = image[..., ::-1]
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def pack_flow(flow: np.ndarray, known: bool = True) -> np.ndarray:
    """KITTI's 16-bit flow picture (h, w, 3): (round(64 u) + 32768, round(64 v) + 32768, known), error at most 1/128 pixel.

    A flow beyond +-511 pixels is clipped and marked unknown.
    """
    codes = np.rint(flow * _FLOW_UNITS) + _FLOW_ZERO
    fits = (codes >= 0).all(axis=-1) & (codes <= 65535).all(axis=-1)
    packed = np.concatenate([np.clip(codes, 0, 65535), (fits & known)[..., None]], axis=-1)
    return packed.astype(np.uint16)


def unpack_flow(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(flow float32 (h, w, 2) in pixels, known bool (h, w)) from `pack_flow`'s picture or a KITTI flow PNG (RGB order)."""
    return ((packed[..., :2].astype(np.float32) - _FLOW_ZERO) / _FLOW_UNITS), packed[..., 2] > 0
