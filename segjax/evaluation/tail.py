"""Scores of networks without the last units of their trunk: a table, and the picture of Fig. 5.

Source: Ladder-style DenseNets, section 5.6: accuracy after disabling units of the tail.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from segjax import visualize
from segjax.evaluation.confusions import Evaluation
from segjax.evaluation.report import write_csv
from segjax.evaluation.scorer import headline, per_class
from segjax.media.writers import write_png
from segjax.visualize.plots import Line

COLORS = 10  # of matplotlib's cycle


@dataclasses.dataclass(frozen=True)
class Disabled:
    """Scores of a network by the number of disabled units.

    name: of the network.
    units: number of units in the tail.
    scores: number of disabled units -> scores, rising.
    """

    name: str
    units: int
    scores: Mapping[int, Evaluation]


def describe_tail(found: Disabled, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns plain numbers for a report: the scores by number of disabled units."""
    scores = {
        str(count): {"share": round(count / found.units, 4), **headline(one), "iou": per_class(one, class_names)}
        for count, one in found.scores.items()
    }
    return {"units": found.units, "disabled": scores}


def tail_table(found: Sequence[Disabled], *, title: str) -> Table:
    """Returns a table of the mean IoU and the pixel accuracy, in percent, by number of disabled units."""
    table = Table(title=title, title_justify="left")
    for heading in ("network", "disabled", "of", "mIoU", "pixel accuracy"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for one in found:
        for count, score in one.scores.items():
            numbers = headline(score)
            percent = [f"{100 * numbers[key]:.1f}" for key in ("miou", "pixel_accuracy")]
            table.add_row(one.name, str(count), str(one.units), *percent)
    return table


def write_tail(found: Sequence[Disabled], folder: Path, *, class_names: Sequence[str], title: str) -> list[Path]:
    """Writes tail.csv, tail.png with all networks, and classes_NAME.png of each network; returns their paths.

    found: of each network.
    folder: of the files.
    class_names: of the scores.
    title: of the pictures.

    Raises UserError if the folder cannot be written.
    """
    lines = [["network", "disabled", "units", "miou", "pixel_accuracy", *class_names]]
    for one in found:
        for count, score in one.scores.items():
            numbers = headline(score)
            classes = ("" if iou is None else f"{iou:.6f}" for iou in per_class(score, class_names).values())
            lines.append(
                [one.name, count, one.units, *(f"{numbers[key]:.6f}" for key in ("miou", "pixel_accuracy")), *classes]
            )
    overall = [Line(one.name, *_points(one, lambda score: headline(score)["miou"])) for one in found]
    axes = dict(x_label="disabled units of the last two blocks, percent", places=range(0, 101, 10), from_zero=True)
    paths = [
        write_csv(folder / "tail.csv", lines),
        write_png(folder / "tail.png", visualize.line_plot(overall, title=title, y_label="mIoU, percent", **axes)),
    ]
    for one in found:
        curves = [
            Line(
                name,
                *_points(one, lambda score, name=name: per_class(score, class_names)[name]),
                color=number % COLORS,
                dashed=number // COLORS % 2 > 0,
            )
            for number, name in enumerate(class_names)
        ]
        picture = visualize.line_plot(
            [curve for curve in curves if curve.x],
            title=f"{one.name}: {title}",
            y_label="IoU, percent",
            beside=True,
            **axes,
        )
        paths.append(write_png(folder / f"classes_{one.name}.png", picture))
    return paths


def _points(found: Disabled, value: Any) -> tuple[list[float], list[float]]:
    """Returns (shares of the disabled units, scores), both in percent, without scores that do not exist."""
    points = [(100 * count / found.units, value(score)) for count, score in found.scores.items()]
    points = [(x, 100 * y) for x, y in points if y is not None]
    return [x for x, _ in points], [y for _, y in points]
