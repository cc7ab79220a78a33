"""Files of a comparison: tables as Markdown and CSV, and plots."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from segjax.evaluation.comparison import Comparison, Difference, differences
from segjax.evaluation.comparison_plots import differences_plot, plot
from segjax.evaluation.comparison_tables import page
from segjax.files import write_file
from segjax.media.writers import write_png

OF_DIFFERENCES = (
    "baseline",
    "baseline_at",
    "paired_by",
    "pairs",
    "difference",
    "low",
    "high",
    "half_width",
    "interval",
)


def write_comparison(comparison: Comparison, folder: str | os.PathLike) -> list[Path]:
    """Writes tables and plots to an existing folder; returns their paths.

    table.md has all tables for readers; table.csv, classes.csv and class_differences.csv have the numbers as they are.
    curves.png shows the first column, and differences.png its differences, if there are any with an interval.

    Raises UserError if a plot cannot be written.
    """
    folder = Path(folder)
    files = {
        "table.md": page(comparison),
        "table.csv": table_csv(comparison),
        "classes.csv": classes_csv(comparison),
        "class_differences.csv": class_differences_csv(comparison),
    }
    for name, text in files.items():
        write_file(folder / name, text)
    pictures = {"curves.png": plot(comparison), "differences.png": differences_plot(comparison)}
    written = [folder / name for name in files]
    for name, picture in pictures.items():
        if picture is None:
            (folder / name).unlink(missing_ok=True)  # of an earlier comparison
        else:
            written.append(write_png(folder / name, picture))
    return written


def table_csv(comparison: Comparison) -> str:
    """Returns CSV with a row for each cell and column: mean, deviation, difference, and the number of each run.

    Shares are 0..1. `seeds` are those of the runs, in their order; `pairs` those (or the positions) of paired runs.
    """
    most = max(len(cell.done) for cell in comparison.cells)
    head = ["series", "at", "number", "runs", "mean", "deviation", *OF_DIFFERENCES, "seeds"]
    rows: list[list] = [[*head, *(f"run_{i}" for i in range(most))]]
    compared = {
        (found.cell.series, found.cell.at, column.key): found
        for column in comparison.columns
        for found in differences(comparison, key=column.key)
    }
    for cell in comparison.cells:
        for column in comparison.columns:
            found = compared.get((cell.series, cell.at, column.key))
            spread = _number(cell.deviation(column.key))
            row = [cell.series, cell.at, column.key, len(cell.done), _number(cell.mean(column.key)), spread]
            seeds = " ".join("?" if run.seed is None else str(run.seed) for run in cell.done)
            rows.append([*row, *_of_difference(found), seeds])
            rows[-1] += [_number(run.numbers.get(column.key)) for run in cell.done]
    return _csv(rows)


def classes_csv(comparison: Comparison) -> str:
    """Returns CSV: series, at, then the mean IoU of each class in 0..1, empty for a class that no image has."""
    names = comparison.class_names
    rows: list[list] = [["series", "at", *names]]
    rows += [[cell.series, cell.at, *(_number(cell.class_iou(name)) for name in names)] for cell in comparison.cells]
    return _csv(rows)


def class_differences_csv(comparison: Comparison) -> str:
    """Returns CSV with a row for each class and cell with a baseline: the difference of the IoU, 0..1."""
    rows: list[list] = [["series", "at", "class", *OF_DIFFERENCES]]
    for name in comparison.class_names:
        for found in differences(comparison, class_name=name):
            rows.append([found.cell.series, found.cell.at, name, *_of_difference(found)])
    return _csv(rows)


def _of_difference(found: Difference | None) -> list[str]:
    """Returns the fields OF_DIFFERENCES, empty without a difference."""
    if found is None:
        return [""] * len(OF_DIFFERENCES)
    head = [found.baseline.series, str(found.baseline.at), found.by, " ".join(map(str, found.pairs))]
    interval = found.interval
    if interval is None:
        return [*head, *[""] * (len(OF_DIFFERENCES) - len(head))]
    numbers = (interval.mean, interval.low, interval.high, interval.half_width)
    return [*head, *map(_number, numbers), interval.verdict]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _csv(rows: Sequence[Sequence]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
