"""Tables and plots of the stage "evaluate_video"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from segjax import visualize
from segjax.evaluation.report import write_csv
from segjax.files import write_file
from segjax.media.writers import write_png
from segjax.visualize.plots import Line

# a row: {"system", "series", "interval", "average", "minimum", "consistency", "multiply_adds", "parameters", "key_ms",
# "between_ms", "frame_ms", "with_drawing_ms"}; None where there is no such number
COLUMNS = {
    "system": "system",
    "interval": "interval",
    "average": "average mIoU",
    "minimum": "minimum mIoU",
    "consistency": "steady",
    "multiply_adds": "G a frame",
    "parameters": "parameters",
    "key_ms": "keyframe, ms",
    "between_ms": "between, ms",
    "frame_ms": "a frame, ms",
    "with_drawing_ms": "drawn, ms",
}
SHARES = ("average", "minimum", "consistency")


def video_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    """Returns a table for the terminal; rows: see COLUMNS."""
    table = Table(title=title, title_justify="left")
    for name, heading in COLUMNS.items():
        table.add_column(heading, justify="left" if name == "system" else "right")
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in COLUMNS))
    return table


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if name in SHARES:
        return f"{100 * value:.1f}"
    if name == "multiply_adds":
        return f"{value / 1e9:.3g}"
    return f"{value:,}" if name == "parameters" else f"{value:.1f}" if isinstance(value, float) else str(value)


def write_video_report(
    rows: Sequence[Mapping[str, Any]], folder: Path, *, title: str, notes: Sequence[str]
) -> list[Path]:
    """Writes table.md, table.csv, intervals.png and, if there are times, speed.png; returns their paths.

    rows: see COLUMNS. notes: sentences below the table.
    Raises UserError if the folder cannot be written.
    """
    lines = [f"# {title}", "", f"| {' | '.join(COLUMNS.values())} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(_cell(name, row.get(name)) for name in COLUMNS)} |" for row in rows]
    lines += ["", *notes, ""]
    write_file(folder / "table.md", "\n".join(lines))
    numbers = [list(COLUMNS), *(["" if row.get(name) is None else row[name] for name in COLUMNS] for row in rows)]
    plots = []
    for number, system in enumerate(dict.fromkeys(row["system"] for row in rows)):
        own = [row for row in rows if row["system"] == system]
        for kind, dashed in (("average", False), ("minimum", True)):
            y = [100 * row[kind] for row in own]
            x = [row["interval"] for row in own] if own[0]["interval"] else _all_intervals(rows)
            name = f"{system}, {kind}" if own[0]["interval"] else system
            plots.append(Line(name, x, y if own[0]["interval"] else y * len(x), (), number, dashed))
            if not own[0]["interval"]:
                break
    picture = visualize.line_plot(
        plots, title=title, x_label="interval of keyframes, frames", y_label="mIoU, percent", beside=True
    )
    written = [folder / "table.md", write_csv(folder / "table.csv", numbers)]
    written.append(write_png(folder / "intervals.png", picture))
    if any(row.get("frame_ms") for row in rows):
        written.append(write_png(folder / "speed.png", speed_plot(rows, title=title)))
    return written


def speed_plot(rows: Sequence[Mapping[str, Any]], *, title: str) -> np.ndarray:
    """Plots the average mIoU over frames per second (Lee et al., Figs. 3, A5 and A6); uint8 (h, w, 3).

    A line goes through the intervals of keyframes, and a dashed one through the scales of a network on every frame.
    """
    lines = []
    for number, series in enumerate(dict.fromkeys(row["series"] for row in rows)):
        own = [row for row in rows if row["series"] == series and row.get("frame_ms")]
        x, y = [1000 / row["frame_ms"] for row in own], [100 * row["average"] for row in own]
        if own:
            lines.append(Line(series, x, y, (), number, dashed=own[0]["interval"] is None))
    labels = dict(x_label="frames per second", y_label="average mIoU, percent")
    return visualize.line_plot(lines, title=title, **labels, log_x=True, beside=True)


def _all_intervals(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({row["interval"] for row in rows if row["interval"]}) or [1]


def video_notes(
    *,
    consistency: str,
    truth: float | None,
    bounds: Mapping[str, Mapping[str, Any]],
    edges: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """Returns the sentences below the table.

    consistency: name of the flow by which frames were compared, "" for none; truth: consistency of the true labels.
    bounds: see `grid_bound`, by pixels of a cell. edges: see `edge_errors`, by system.
    """
    notes = [
        "Average: one confusion matrix over keyframes 0 .. interval - 1 frames before the labelled frame. Minimum: "
        "keyframes interval - 1 frames before it. Times: of this machine, alone or not; from a frame in memory to its "
        "ids, and, drawn, from the file to a picture."
    ]
    for cell, bound in bounds.items():
        notes.append(f"True labels averaged over cells of {cell} pixels and enlarged: {100 * bound['miou']:.1f} mIoU.")
    if consistency:
        shown = "not known" if truth is None or truth != truth else f"{100 * truth:.1f}"
        notes.append(
            f"Steady: share of pixels with the class to which the flow ({consistency}) leads in the frame "
            f"before; of the true labels {shown}."
        )
    for name, found in edges.items():
        share, errors, wrong, elsewhere = (
            f"{100 * found[key]:.1f} %" for key in ("share", "errors_at_edges", "wrong_at_edges", "wrong_elsewhere")
        )
        notes.append(
            f"{name}, warped labels one frame after a keyframe: cells with an edge have {share} of the pixels and "
            f"{errors} of the errors; {wrong} of their pixels are wrong, and {elsewhere} of the others."
        )
    return notes
