"""Reports of an evaluation: a table, CSV files, a plot of the confusion matrix, sheets of worst and best images."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from segjax import metrics, visualize
from segjax.evaluation.confusions import Evaluation, ImageScore
from segjax.files import write_file, writing
from segjax.media.writers import write_png

ROWS_PER_SHEET = 6


def score_table(matrix: np.ndarray, class_names: Sequence[str], *, title: str = "") -> Table:
    """Returns a table of IoU, recall, precision and share of the pixels by class, in percent, with the means below.

    A class in neither truth nor prediction has a dash.

    matrix: counts (k, k), row = truth, column = prediction.
    """
    scores = metrics.iou_scores(matrix)
    rows = _class_rows(matrix, class_names)
    table = Table(title=title or None, title_justify="left", show_footer=True)
    means = ["mean", *(_percent(_nanmean([row[key] for row in rows])) for key in ("iou", "recall", "precision")), ""]
    for heading, foot in zip(("class", "IoU", "recall", "precision", "pixels"), means):
        table.add_column(heading, footer=foot, justify="left" if heading == "class" else "right")
    table.add_column("", footer=f"pixel accuracy {_percent(scores['pixel_accuracy'])}")
    for row in rows:
        cells = [_percent(row[key]) for key in ("iou", "recall", "precision", "share")]
        table.add_row(row["class"], *cells, _bar(row["iou"]))
    return table


def print_scores(matrix: np.ndarray, class_names: Sequence[str], *, title: str = "", console: Console | None = None):
    """Prints `score_table`."""
    visualize.print_table(score_table(matrix, class_names, title=title), console)


def write_report(
    evaluation: Evaluation,
    folder: str | os.PathLike,
    *,
    class_names: Sequence[str],
    palette: np.ndarray,
    names: Callable[[int], str] = str,
    ignore_label: int = 255,
    title: str = "",
) -> list[Path]:
    """Writes classes.csv, confusion.csv, confusion.png, worst_1.png, .., best_1.png, ..; returns their paths.

    With worst and best images also best_beside_worst.png. Call it on one host only.

    evaluation: result of `evaluate`; each sheet shows six of its worst or best images.
    palette: uint8 (k, 3).
    names: index of a record -> name of its image.

    Raises UserError if the folder cannot be written.
    """
    folder = Path(folder)
    paths = [
        write_csv(folder / "classes.csv", _class_csv(evaluation.matrix, class_names)),
        write_csv(
            folder / "confusion.csv",
            [["truth", *class_names], *([name, *map(int, row)] for name, row in zip(class_names, evaluation.matrix))],
        ),
        write_png(folder / "confusion.png", visualize.confusion_plot(evaluation.matrix, class_names)),
    ]
    for kind, found in (("worst", evaluation.worst), ("best", evaluation.best)):
        for start in range(0, len(found), ROWS_PER_SHEET):
            scores = found[start : start + ROWS_PER_SHEET]
            picture = error_sheet(
                [[score] for score in scores],
                class_names=class_names,
                palette=palette,
                names=names,
                ignore_label=ignore_label,
                heading=f"{title + ': ' if title else ''}{kind} images {start + 1} to {start + len(scores)}",
            )
            paths.append(write_png(folder / f"{kind}_{start // ROWS_PER_SHEET + 1}.png", picture))
    if evaluation.worst and evaluation.best:
        pairs = list(zip(evaluation.best, evaluation.worst))[:ROWS_PER_SHEET]
        picture = error_sheet(
            pairs,
            class_names=class_names,
            palette=palette,
            names=names,
            ignore_label=ignore_label,
            heading=f"{title + ': ' if title else ''}best images (left) beside worst images (right)",
            tile_width=300,
        )
        paths.append(write_png(folder / "best_beside_worst.png", picture))
    return paths


def error_sheet(
    rows: Sequence[Sequence[ImageScore]],
    *,
    class_names: Sequence[str],
    palette: np.ndarray,
    names: Callable[[int], str] = str,
    ignore_label: int = 255,
    heading: str = "",
    tile_width: int = 480,
) -> np.ndarray:
    """Builds a sheet of image | truth | prediction | error for each image, with a legend.

    rows: images of each row, one or several, all of one number.
    palette: uint8 (k, 3).
    names: index of a record -> name of its image.
    tile_width: pixels.
    Returns uint8 (h, w, 3).
    """
    tiles, captions = [], []
    for row in rows:
        tiles.append(
            [
                tile
                for score in row
                for tile in (
                    score.image,
                    visualize.overlay(score.image, score.label, palette),
                    visualize.overlay(score.image, score.prediction, palette),
                    visualize.error_map(score.prediction, score.label, image=score.image, ignore_label=ignore_label),
                )
            ]
        )
        captions.append(
            [
                f"{names(score.record)}    mIoU {_percent(score.miou)}    "
                f"pixel accuracy {_percent(score.pixel_accuracy)}"
                for score in row
            ]
        )
    titles = ("image", "truth", "prediction", "error") * len(rows[0])
    return visualize.labelled_sheet(
        tiles, class_names, palette, captions=captions, titles=titles, heading=heading, tile_width=tile_width
    )


def label_sheet(
    samples: Sequence[tuple[str, np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    tile_width: int = 420,
) -> np.ndarray:
    """Builds a sheet of image | overlay | labels, one row per sample, with a legend.

    samples: (name, image uint8 (h, w, 3), labels (h, w)).
    palette: uint8 (k, 3).
    tile_width: pixels.
    Returns uint8 (h, w, 3).
    """
    rows = [
        [image, visualize.overlay(image, labels, palette), visualize.colorize(labels, palette)]
        for _, image, labels in samples
    ]
    captions = [name for name, _, _ in samples]
    titles = ("image", "overlay", "labels")
    return visualize.labelled_sheet(rows, class_names, palette, captions=captions, titles=titles, tile_width=tile_width)


def _class_rows(matrix: np.ndarray, class_names: Sequence[str]) -> list[dict]:
    iou = metrics.iou_scores(matrix)["iou"]
    matrix = np.asarray(matrix, np.float64)
    truth, predicted, right = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    return [
        {
            "class": name,
            "iou": float(iou[i]),
            "recall": right[i] / truth[i] if truth[i] else math.nan,
            "precision": right[i] / predicted[i] if predicted[i] else math.nan,
            "share": truth[i] / max(matrix.sum(), 1),
            "pixels": int(truth[i]),
        }
        for i, name in enumerate(class_names)
    ]


def _class_csv(matrix: np.ndarray, class_names: Sequence[str]) -> list[list]:
    rows, scores = _class_rows(matrix, class_names), metrics.iou_scores(matrix)
    lines = [["class", "iou", "recall", "precision", "pixels"]]
    lines += [
        [r["class"], *("" if math.isnan(r[k]) else f"{r[k]:.6f}" for k in lines[0][1:4]), r["pixels"]] for r in rows
    ]
    lines.append(
        ["mean", *(f"{_nanmean([r[k] for r in rows]):.6f}" for k in lines[0][1:4]), sum(r["pixels"] for r in rows)]
    )
    lines.append(["pixel_accuracy", f"{scores['pixel_accuracy']:.6f}", "", "", ""])
    return lines


def write_csv(path: Path, lines: Sequence[Sequence]) -> Path:
    """Writes lines of cells as CSV; returns the path. Raises UserError if it cannot be written."""
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text.getvalue())
    return path


def _nanmean(values: Sequence[float]) -> float:
    good = [value for value in values if not math.isnan(value)]
    return sum(good) / len(good) if good else math.nan


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _bar(share: float, width: int = 24) -> str:
    return "" if math.isnan(share) else "█" * round(share * width)
