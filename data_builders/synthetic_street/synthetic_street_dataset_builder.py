"""A procedural driving video through towns that do not exist: Cityscapes' 19 classes, exact labels, exact optical flow.

Every sequence is a pure function of (seed, split, number). All frames carry their exact label, also those whose
`labelled`
is false: a training run must not use them, an evaluation of label propagation may.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_builders import records
from data_builders.about import About
from data_builders.synthetic_street.generator import SPLITS, Settings, encode_png, frames, round_flow
from segjax.data.classes import CLASSES, IGNORE_LABEL, ClassTable, Label
from segjax.data.label_map import LabelMap

_NAMES = zip(CLASSES["cityscapes"].names, CLASSES["cityscapes"].palette.tolist())
_CLASSES = tuple(Label(k, name, k, tuple(color)) for k, (name, color) in enumerate(_NAMES))
_VOID = Label(IGNORE_LABEL, "unlabelled", IGNORE_LABEL, (0, 0, 0))
ABOUT = About(
    name="synthetic_street",
    title="Synthetic street",
    homepage="",
    licence="Apache-2.0",
    classes="cityscapes",
    size="128x256, with config=large 256x512",
    disk="133 MB; drawn in a minute",
    images={"train": 630, "validation": 135, "test": 135},
)
LABEL_MAP = LabelMap(ClassTable((*_CLASSES, _VOID)), name="the label map of synthetic_street")  # masks hold train ids


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """Options of the dataset, with the meaning of `generator.Settings`.

    train, validation, test: number of sequences. Every `labelled_every`-th of the `frames` frames of a sequence is
        labelled.
    """

    name: str = "default"
    seed: int = Settings.seed
    height: int = Settings.height
    width: int = Settings.width
    train: int = Settings.sequences[0]
    validation: int = Settings.sequences[1]
    test: int = Settings.sequences[2]
    frames: int = Settings.frames
    labelled_every: int = Settings.labelled_every
    noise: float = Settings.noise

    def settings(self) -> Settings:
        """Returns the generator's settings. Raises UserError for values that make no video."""
        return Settings(
            seed=self.seed,
            height=self.height,
            width=self.width,
            sequences=(self.train, self.validation, self.test),
            frames=self.frames,
            labelled_every=self.labelled_every,
            noise=self.noise,
        ).check()


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder that renders the videos.

    Features beyond those of every dataset:
    flow: (h, w, 2) float32. Pixel (x, y) of the frame is at (x + u, y + v) in the previous frame, rounded to 1/256
        pixel; exact for hidden pixels too.
    flow_valid: (h, w, 1) uint8, 1 if that place is inside the previous frame and shows the same surface.
    The first frame of a sequence has flow 0 and flow_valid 0.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        Config(),
        Config(name="tiny", height=64, width=128, train=4, validation=2, test=2, frames=6),  # for tests and smoke runs
        Config(name="large", height=256, width=512, train=240, validation=40, test=40, frames=15, labelled_every=5),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        settings = self.builder_config.settings()
        shape = (settings.height, settings.width)
        flow = tfds.features.Tensor(shape=(*shape, 2), dtype=np.float32, encoding=tfds.features.Encoding.BYTES)
        valid = tfds.features.Image(shape=(*shape, 1), encoding_format="png")
        return records.dataset_info(
            self,
            description=__doc__,  # part of dataset_info.json: another docstring would change the bytes of every build
            label_map=LABEL_MAP,
            extra_features={"flow": flow, "flow_valid": valid},
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        settings = self.builder_config.settings()
        return {split: self._generate_examples(settings, split) for split, n in zip(SPLITS, settings.sequences) if n}

    def _generate_examples(self, settings: Settings, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        count = settings.sequences[SPLITS.index(split)]
        videos = (frame for sequence in range(count) for frame in frames(settings, split, sequence))
        for key, frame in enumerate(videos):
            sequence = f"{split}_{frame.sequence:04d}"
            yield (
                key,
                {
                    "image": encode_png(frame.image),
                    "label": encode_png(frame.label),
                    "name": f"{sequence}_{frame.frame:03d}",
                    "sequence": sequence,
                    "frame": frame.frame,
                    "height": settings.height,
                    "width": settings.width,
                    "labelled": frame.labelled,
                    "flow": round_flow(frame.flow),
                    "flow_valid": encode_png(frame.visible.astype(np.uint8)),
                },
            )
