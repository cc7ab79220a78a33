"""Scores a network on a split: used while training and by the stage "evaluate"."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from segjax import data, parallel
from segjax.evaluation.confusions import Evaluation, evaluate
from segjax.typing import Variables


class Scorer:
    """score(variables) -> Evaluation of every labelled image of a source, compiled once per image size.

    predict: (variables, images uint8 (b, h, w, 3)) -> class ids (b, h, w), of one output or of several by name; see
        `inference.network.class_ids`. Of snippets it gets frames (b, t, h, w, 3), see `snippet_class_ids`.
    source: images, or the snippets of a video, of which the last frame is scored.
    limit: so many images only, spread evenly.
    """

    def __init__(
        self,
        predict: Callable[[Variables, Any], Any],
        source: data.Source | data.Snippets,
        *,
        mesh: Mesh,
        batch_size: int,
        limit: int | None = None,
    ):
        self._predict, self._source, self._mesh, self._limit = predict, source, mesh, limit
        self._batch_size = rows_of_batch(batch_size, mesh)

    def __call__(
        self,
        variables: Variables,
        *,
        worst: int = 0,
        best: int = 0,
        keep: Collection[int] = (),
        observe: Callable[..., None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Evaluation:
        """Every process calls it and gets the same result. worst, best, keep, observe, progress: see `evaluate`."""
        part, parts = parallel.batch_part(self._mesh)
        video = isinstance(self._source, data.Snippets)
        batches, rank = (data.eval_snippets, 5) if video else (data.eval_batches, 4)
        return evaluate(
            functools.partial(self._predict, variables),
            batches(
                self._source, batch_size=self._batch_size, process_index=part, process_count=parts, limit=self._limit
            ),
            num_classes=self._source.num_classes,
            worst=worst,
            best=best,
            keep=keep,
            sharding=parallel.batch_sharding(self._mesh, rank, space_axis=rank - 3),
            observe=observe,
            progress=progress,
        )


def rows_of_batch(batch_size: int, mesh: Mesh) -> int:
    """Returns the rows of a global batch: a multiple of the devices that share it; padding rows weigh nothing."""
    parts = parallel.axis_size(mesh, "data")
    return -(-batch_size // parts) * parts


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The numbers a log line shows, in 0..1."""
    scores = evaluation.scores
    return {name: float(scores[name]) for name in ("miou", "pixel_accuracy", "mean_accuracy")}


def per_class(evaluation: Evaluation, class_names: Sequence[str]) -> Mapping[str, float | None]:
    """IoU by class name; None for a class that neither truth nor prediction has."""
    iou = evaluation.scores["iou"]
    return {name: (None if value != value else round(float(value), 6)) for name, value in zip(class_names, iou)}
