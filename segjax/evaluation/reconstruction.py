"""PSNR and SSIM of reconstructed frames, compared with copying and plain optical flow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from segjax import parallel, visualize
from segjax.data.triplets import Triplets, TripletSampling, eval_triplets
from segjax.media.writers import write_png
from segjax.metrics.image_quality import psnr, ssim
from segjax.ops import bilinear_warp

log = logging.getLogger("segjax")

METHODS = ("network", "copy", "flow")


@dataclass(frozen=True)
class ShownFrame:
    """One triple: target and reconstruction (h, w, 3) in 0..255, flow (h, w, 2) of the network, number, PSNR in dB."""

    record: int
    target: np.ndarray
    frame: np.ndarray
    flow: np.ndarray
    psnr: float


@dataclass(frozen=True)
class VideoScores:
    """scores: "psnr", "psnr_copy", "psnr_flow" in dB, and ssim so, means over the frames. frames: how many."""

    scores: Mapping[str, float]
    frames: int
    seconds: float
    shown: Sequence[ShownFrame]


def compile_measures(apply: Callable[..., Any], *, frames: int, mesh: Mesh) -> Callable:
    """A compiled (variables, batch) -> (numbers (b, 6), weight, record, frame, flow); see `data.eval_triplets`.

    Copy takes the frame before the target; flow moves that frame by the optical flow from the target into it.
    """
    everywhere = parallel.replicated(mesh)
    spread = parallel.batch_sharding(mesh, 4)

    def run(variables, batch):
        images = batch["images"].astype(jnp.float32)
        output = apply(variables, images[:, :frames], batch["flows"][:, : frames - 1], train=False)
        guesses = (output.frame, images[:, 1], bilinear_warp(images[:, 1], batch["flows"][:, 1]))
        guesses = [jnp.clip(guess, 0, 255) for guess in guesses]
        numbers = [measure(guess, images[:, 2]) for measure in (psnr, ssim) for guess in guesses]
        return jnp.stack(numbers, 1), batch["weight"], batch["record"], guesses[0], output.flow

    return jax.jit(run, out_shardings=(everywhere, everywhere, everywhere, spread, spread))


def score_frames(
    scorer: Callable,
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    mesh: Mesh,
    show: Sequence[int] = (),
    after_batch: Callable[[], None] = lambda: None,
) -> VideoScores:
    """Means over all triples of weight 1. show: numbers of triples whose pictures are kept. All processes agree."""
    begin = time.perf_counter()
    pick = jax.jit(lambda rows, i: rows[i], out_shardings=parallel.replicated(mesh))
    total, count, shown = np.zeros(2 * len(METHODS)), 0, []
    for batch in batches:
        batch = parallel.shard_batch(batch, mesh)
        *small, frame, flow = scorer(variables, batch)
        numbers, weight, record = parallel.fetch_replicated(small)
        total += numbers[weight > 0].astype(np.float64).sum(0)
        count += int((weight > 0).sum())
        for row in np.flatnonzero((weight > 0) & np.isin(record, list(show))):
            parts = (pick(batch["images"], row)[2], pick(frame, row), pick(flow, row))
            parts = [parallel.fetch_replicated(part) for part in parts]
            shown.append(ShownFrame(int(record[row]), *parts, float(numbers[row, 0])))
        after_batch()
    names = [kind + ("" if method == "network" else f"_{method}") for kind in ("psnr", "ssim") for method in METHODS]
    scores = dict(zip(names, (total / max(count, 1)).tolist()))
    return VideoScores(scores, count, time.perf_counter() - begin, shown)


MOTION_KEY = (
    "motion: in which direction the pixel lies in the frame before; white: it stays",
    "full colours: the longest motion of the frame. error: white from 64 grey levels on",
)


def frames_sheet(shown: Sequence[ShownFrame], names: Callable[[int], str], *, heading: str = "") -> np.ndarray:
    """One row per frame: real | reconstructed | motion | error, uint8 (h, w, 3).

    Motion is coloured by direction (Middlebury's wheel), with the longest vector of each frame at full saturation;
    error is the mean absolute difference of the channels, white from 64 grey levels on.
    """
    rows, captions = [], []
    for one in sorted(shown, key=lambda one: one.record):
        error = np.abs(one.frame - one.target.astype(np.float32)).mean(-1, keepdims=True)
        grey = np.clip(4 * error, 0, 255).astype(np.uint8).repeat(3, -1)
        longest = float(np.hypot(*one.flow.transpose(2, 0, 1)).max())
        frame = np.clip(np.rint(one.frame), 0, 255).astype(np.uint8)
        rows.append([one.target.astype(np.uint8), frame, visualize.flow_to_color(one.flow), grey])
        captions.append(f"{names(one.record)}: {one.psnr:.1f} dB, longest motion {longest:.1f} pixels")
    return visualize.sheet(
        rows,
        captions=captions,
        titles=("real", "reconstructed", "motion", "error"),
        heading=heading,
        foot=visualize.wheel_legend(MOTION_KEY),
        tile_width=400,
    )


class ReconstructionScorer:
    """Scores of held-out frames, while training and at the end; every process gets the same.

    apply: a video network's. triplets: held out. sampling: without reversal, flow on whole frames.
    batch_size: global, made a multiple of the devices. limit: so many triples only, spread evenly.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        triplets: Triplets,
        sampling: TripletSampling,
        *,
        mesh: Mesh,
        batch_size: int,
        limit: int | None = None,
    ):
        self._triplets, self._sampling, self._mesh, self._limit = triplets, sampling, mesh, limit
        parts = parallel.axis_size(mesh, "data")
        self._batch_size = -(-batch_size // parts) * parts
        self._measures = compile_measures(apply, frames=sampling.frames, mesh=mesh)

    def _score(
        self, variables: Any, show: Sequence[int] = (), after_batch: Callable[[], None] = lambda: None
    ) -> VideoScores:
        part, parts = parallel.batch_part(self._mesh)
        batches = eval_triplets(
            self._triplets,
            self._sampling,
            batch_size=self._batch_size,
            limit=self._limit,
            process_index=part,
            process_count=parts,
        )
        return score_frames(self._measures, variables, batches, mesh=self._mesh, show=show, after_batch=after_batch)

    def scores(self, variables: Any, after_batch: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Returns the numbers, for the log; calls after_batch after each batch."""
        return dict(self._score(variables, after_batch=after_batch).scores)

    def final(self, variables: Any, path: Path, *, rows: int) -> dict[str, float]:
        """Returns the numbers at the end, and writes a sheet of `rows` frames to `path`."""
        limited = self._triplets.limited(self._limit)
        rows = min(rows, len(limited))
        show = np.unique(np.linspace(0, len(limited) - 1, num=rows).astype(int)).tolist() if rows else []
        found = self._score(variables, show)
        values = [found.scores["psnr" if name == "network" else f"psnr_{name}"] for name in METHODS]
        text = ", ".join(f"{name} {value:.2f} dB" for name, value in zip(METHODS, values))
        log.info("%d frames held out: %s", found.frames, text)
        if jax.process_index() == 0 and found.shown:
            write_png(path, frames_sheet(found.shown, lambda record: limited.names[record], heading=text))
            log.info("pictures: %s", path)
        return {**{name: round(value, 4) for name, value in found.scores.items()}, "frames": found.frames}
