"""Scores of a video network on frames that were held out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import parallel
from segjax.data.triplets import Clips, Triplets, eval_triplets
from segjax.evaluation.reconstruction import VideoScores, frames_sheet, make_scorer, score_frames
from segjax.media.writers import write_png
from segjax.stages.config import durations
from segjax.stages.video_data import flow_of
from segjax.training.state import TrainState

log = logging.getLogger("segjax")


class Validation:
    """Scores of the frames that were held out, while training and at the end; every process gets the same.

    held_out: None leaves nothing to score. every: whether to score while training. frames: that the network looks at.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        model: Any,
        clips: Clips,
        held_out: Triplets | None,
        frames: int,
        mesh: Mesh,
    ):
        self._settings, self._held_out, self._mesh = settings, held_out, mesh
        self.every = held_out is not None and durations.find_duration(settings, "eval") is not None
        if held_out is None:
            return
        self._clips = dataclasses.replace(clips, flow=flow_of(settings, held_out), reverse=0.0, flow_on="frame")
        self._scorer = make_scorer(model.apply, frames=frames, mesh=mesh)

    def _score(self, state: TrainState, show: Sequence[int] = ()) -> VideoScores:
        part, parts = parallel.batch_part(self._mesh)
        data_parts = parallel.axis_size(self._mesh, "data")
        size = -(-self._settings["batch_size"] // data_parts) * data_parts
        batches = eval_triplets(
            self._held_out, self._clips, batch_size=size, limit=self._settings.get("eval_limit") or None,
            process_index=part, process_count=parts,
        )  # fmt: skip
        return score_frames(self._scorer, state.best_variables, batches, mesh=self._mesh, show=show)

    def __call__(self, state: TrainState) -> dict[str, float]:
        """The numbers, for the log."""
        return dict(self._score(state).scores)

    def final(self, state: TrainState, path: Path) -> dict[str, float]:
        """The numbers at the end, and a sheet of pictures in `path`."""
        limited = self._held_out.limited(self._settings.get("eval_limit") or None)
        rows = min(self._settings.get("sheet_rows", 6), len(limited))
        show = np.unique(np.linspace(0, len(limited) - 1, num=rows).astype(int)).tolist() if rows else []
        found = self._score(state, show)
        names = ("network", "copy", "flow")
        values = [found.scores["psnr" if name == "network" else f"psnr_{name}"] for name in names]
        text = ", ".join(f"{name} {value:.2f} dB" for name, value in zip(names, values))
        log.info("%d frames held out: %s", found.frames, text)
        if jax.process_index() == 0 and found.shown:
            picture = frames_sheet(found.shown, lambda record: limited.names[record], heading=text)
            write_png(path, picture)
            log.info("pictures: %s", path)
        return {**{name: round(value, 4) for name, value in found.scores.items()}, "frames": found.frames}
