"""Scores and pictures of several outputs of one network, from coarse to fine: what each level of a ladder recognises.

Source: Ladder-style DenseNets, section 5.8 and Fig. 6: predictions along the upsampling path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from segjax import metrics, visualize
from segjax.evaluation.confusions import MAIN, Evaluation, ImageScore
from segjax.evaluation.report import write_csv
from segjax.media.writers import write_png
from segjax.visualize.plots import Line

COLUMNS = 6  # tiles of a row; with more outputs, an image has several rows


def level_scores(evaluation: Evaluation, names: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns name of an output -> {"miou", "pixel_accuracy", "mean_accuracy", "iou": by class, null = absent}.

    evaluation: of several outputs.
    names: of the outputs, in the order of the result.
    class_names: of the scores.
    """
    found = {}
    for name in names:
        scores = metrics.iou_scores(_matrix(evaluation, name))
        found[name] = {key: float(scores[key]) for key in ("miou", "pixel_accuracy", "mean_accuracy")}
        found[name]["iou"] = {
            one: None if math.isnan(iou) else round(float(iou), 6) for one, iou in zip(class_names, scores["iou"])
        }
    return found


def level_table(scores: Mapping[str, Any], *, title: str) -> Table:
    """Returns a table of the mean IoU and the pixel accuracy of each output, in percent; scores: see `level_scores`."""
    table = Table(title=title, title_justify="left")
    for heading in ("output", "mIoU", "pixel accuracy"):
        table.add_column(heading, justify="left" if heading == "output" else "right")
    for name, one in scores.items():
        table.add_row(name, *(f"{100 * one[key]:.1f}" for key in ("miou", "pixel_accuracy")))
    return table


def write_levels(
    evaluation: Evaluation,
    names: Sequence[str],
    folder: Path,
    *,
    class_names: Sequence[str],
    palette: np.ndarray,
    name_of: Callable[[int], str],
    title: str,
) -> list[Path]:
    """Writes outputs.csv, outputs.png with the mean IoU of each output, and outputs_images.png; returns their paths.

    evaluation: of several outputs; the picture shows the images that it has kept.
    names: of the outputs, from coarse to fine.
    folder: of the files.
    class_names: of the scores.
    palette: uint8 (k, 3).
    name_of: index of a record -> name of its image.
    title: of the pictures.

    Raises UserError if the folder cannot be written.
    """
    scores = level_scores(evaluation, names, class_names)
    lines = [["output", "miou", "pixel_accuracy", *class_names]]
    for name, one in scores.items():
        classes = ("" if iou is None else f"{iou:.6f}" for iou in one["iou"].values())
        lines.append([name, *(f"{one[key]:.6f}" for key in ("miou", "pixel_accuracy")), *classes])
    line = Line("mIoU", range(len(names)), [100 * scores[name]["miou"] for name in names])
    plot = visualize.line_plot(
        [line], title=title, x_label="output", y_label="mIoU, percent", ticks=names, from_zero=True
    )
    paths = [write_csv(folder / "outputs.csv", lines), write_png(folder / "outputs.png", plot)]
    if evaluation.kept:
        picture = level_sheet(evaluation.kept, names, class_names, palette, name_of=name_of, heading=title)
        paths.append(write_png(folder / "outputs_images.png", picture))
    return paths


def level_sheet(
    images: Sequence[ImageScore],
    names: Sequence[str],
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    name_of: Callable[[int], str] = str,
    heading: str = "",
    tile_width: int = 320,
) -> np.ndarray:
    """Builds a sheet of image | truth | prediction of each output with the mIoU of the image, and a legend.

    images: see `Evaluation.kept`.
    names: of the outputs.
    class_names: of the legend.
    palette: uint8 (k, 3).
    name_of: index of a record -> name of its image.
    tile_width: pixels.
    Returns uint8 (h, w, 3).
    """
    rows, captions, columns = [], [], min(COLUMNS, len(names) + 2)
    for one in images:
        tiles = {name_of(one.record): one.image, "truth": visualize.colorize(one.label, palette)}
        for name in names:
            prediction = one.prediction if name == MAIN else one.others[name]
            miou = _miou(one.label, prediction, len(palette))
            tiles[f"{name}, mIoU {100 * miou:.1f}"] = visualize.colorize(prediction, palette)
        texts, pictures = list(tiles), list(tiles.values())
        for start in range(0, len(tiles), columns):
            rows.append(pictures[start : start + columns])
            captions.append([*texts[start : start + columns], *[""] * columns][:columns])
    return visualize.labelled_sheet(
        rows, class_names, palette, captions=captions, heading=heading, tile_width=tile_width
    )


def _matrix(evaluation: Evaluation, name: str) -> np.ndarray:
    return evaluation.matrix if name == MAIN else evaluation.others[name]


def _miou(label: np.ndarray, prediction: np.ndarray, classes: int) -> float:
    valid = label < classes
    pairs = label[valid].astype(np.int64) * classes + prediction[valid]
    matrix = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return float(metrics.iou_scores(matrix)["miou"])
