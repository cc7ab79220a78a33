"""Comparison of training runs: mean and standard deviation over seeds, as tables and a plot.

The tables are those of VPLR (Zhu et al., CVPR 2019), tables 2 and 3; the plot is its figure 4.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from segjax import visualize
from segjax.files import write_file
from segjax.media.writers import write_png

RELAXED = ", relaxed"  # end of the name of a series trained with label relaxation


@dataclasses.dataclass(frozen=True)
class Cell:
    """Scores of several training runs that differ by their seed.

    series: name of the line in the plot and of the row in the table.
    at: place on the axis.
    miou: mIoU of each run, 0..1.
    iou: IoU of each run by class, 0..1; None for a class that no image has.
    """

    series: str
    at: int
    miou: tuple[float, ...]
    iou: tuple[Mapping[str, float | None], ...] = ()

    @property
    def mean(self) -> float:
        """Mean mIoU of the runs."""
        return statistics.fmean(self.miou)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the mIoU, None for a single run."""
        return statistics.stdev(self.miou) if len(self.miou) > 1 else None

    def class_iou(self, name: str) -> float | None:
        """Returns the mean IoU of a class over the runs, None if no run has one."""
        known = [run[name] for run in self.iou if run.get(name) is not None]
        return statistics.fmean(known) if known else None


def write_comparison(
    cells: Sequence[Cell], folder: str | os.PathLike, *, title: str, axis: str, baseline: str = ""
) -> list[Path]:
    """Writes table.md, table.csv, classes.csv and curves.png to an existing folder; returns their paths.

    A series "NAME, relaxed" is a solid line, as in the paper, and "NAME" a dashed line of the same colour.

    axis: name of what `Cell.at` counts.
    baseline: series whose first point is a dotted horizontal line in the plot.

    Raises UserError if the plot cannot be written.
    """
    folder = Path(folder)
    files = {
        "table.md": f"{title}\n\n{markdown(cells, axis=axis)}\n\n{class_markdown(cells)}\n",
        "table.csv": table_csv(cells),
        "classes.csv": classes_csv(cells),
    }
    for name, text in files.items():
        write_file(folder / name, text)
    picture = write_png(folder / "curves.png", plot(cells, title=title, axis=axis, baseline=baseline))
    return [*(folder / name for name in files), picture]


def markdown(cells: Sequence[Cell], *, axis: str) -> str:
    """Returns a Markdown table of mIoU in percent, "mean ± deviation": rows are series, columns places on the axis."""
    places = sorted({cell.at for cell in cells})
    found = {(cell.series, cell.at): cell for cell in cells}
    lines = [f"| {axis} | " + " | ".join(map(str, places)) + " |", "|---" * (len(places) + 1) + "|"]
    for series in dict.fromkeys(cell.series for cell in cells):
        row = (_text(found[series, at]) if (series, at) in found else "" for at in places)
        lines.append(f"| {series} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def class_markdown(cells: Sequence[Cell]) -> str:
    """Returns a Markdown table of the mean IoU per class in percent: two rows per series, its first place and its best.

    The best place is chosen among the others. Without IoU by class, returns "".
    """
    names = list(dict.fromkeys(name for cell in cells for run in cell.iou for name in run))
    if not names:
        return ""
    chosen: list[Cell] = []
    for series in dict.fromkeys(cell.series for cell in cells):
        row = [cell for cell in cells if cell.series == series]
        chosen += [row[0], max(row[1:] or row, key=lambda cell: cell.mean)]
    once = {(cell.at, cell.miou): cell for cell in reversed(chosen)}  # several series start at the same runs
    chosen = list(once.values())[::-1]
    lines = ["| | at | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for cell in chosen:
        values = (cell.class_iou(name) for name in names)
        row = " | ".join("" if value is None else f"{100 * value:.1f}" for value in values)
        lines.append(f"| {cell.series} | {cell.at} | {row} |")
    return "\n".join(lines)


def table_csv(cells: Sequence[Cell]) -> str:
    """Returns CSV: series, at, runs, mean, deviation, then the mIoU of each run, all in 0..1."""
    most = max(len(cell.miou) for cell in cells)
    rows = [["series", "at", "runs", "mean", "deviation", *(f"run_{i}" for i in range(most))]]
    for cell in cells:
        deviation = "" if cell.deviation is None else f"{cell.deviation:.6f}"
        rows.append([cell.series, cell.at, len(cell.miou), f"{cell.mean:.6f}", deviation])
        rows[-1] += [f"{value:.6f}" for value in cell.miou]
    return _csv(rows)


def classes_csv(cells: Sequence[Cell]) -> str:
    """Returns CSV: series, at, then the mean IoU of each class in 0..1, empty for a class that no image has."""
    names = list(dict.fromkeys(name for cell in cells for run in cell.iou for name in run))
    rows: list[list] = [["series", "at", *names]]
    for cell in cells:
        values = (cell.class_iou(name) for name in names)
        rows.append([cell.series, cell.at, *("" if value is None else f"{value:.6f}" for value in values)])
    return _csv(rows)


def plot(cells: Sequence[Cell], *, title: str, axis: str, baseline: str = ""):
    """Plots mIoU in percent over the axis, one line with error bars per series; returns uint8 (h, w, 3)."""
    level = next((100 * cell.mean for cell in cells if cell.series == baseline), None)
    others = [cell for cell in cells if not baseline or cell.series.removesuffix(RELAXED) != baseline]
    cells = others or cells  # the other series start at the baseline's runs
    names = list(dict.fromkeys(cell.series for cell in cells))
    colours = list(dict.fromkeys(name.removesuffix(RELAXED) for name in names))
    lines = []
    for name in names:
        row = sorted((cell for cell in cells if cell.series == name), key=lambda cell: cell.at)
        lines.append(
            visualize.Line(
                name,
                [cell.at for cell in row],
                [100 * cell.mean for cell in row],
                [100 * (cell.deviation or 0.0) for cell in row],
                color=colours.index(name.removesuffix(RELAXED)),
                dashed=not name.endswith(RELAXED),
            )
        )
    return visualize.line_plot(
        lines, title=title, x_label=axis, y_label="mIoU, percent", level=level, level_name=baseline
    )


def _text(cell: Cell) -> str:
    if math.isnan(cell.mean):
        return "-"
    spread = "" if cell.deviation is None else f" ± {100 * cell.deviation:.1f}"
    return f"{100 * cell.mean:.1f}{spread}"


def _csv(rows: Sequence[Sequence]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
