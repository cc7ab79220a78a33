"""Tables, a plot and pictures of the stage "evaluate_video"."""

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

# a row: {"system", "interval", "average", "minimum", "consistency", "multiply_adds", "parameters", "key_ms",
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
    """Writes table.md, table.csv and intervals.png, and returns their paths.

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
    return [folder / "table.md", write_csv(folder / "table.csv", numbers), write_png(folder / "intervals.png", picture)]


def _all_intervals(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({row["interval"] for row in rows if row["interval"]}) or [1]


def video_sheet(
    shown: Sequence[tuple[str, np.ndarray, np.ndarray, Mapping[str, np.ndarray]]],
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    heading: str,
    tile_width: int = 320,
) -> np.ndarray:
    """Draws a row per frame: image | truth | the labels of each system, with a legend; uint8 (h, w, 3).

    shown: (name, image, true labels, system -> labels) of each frame.
    """
    rows, captions = [], []
    for name, image, label, found in shown:
        tiles = [image, *(visualize.colorize(ids, palette) for ids in (label, *found.values()))]
        rows.append(tiles)
        captions.append([name, "truth", *found])
    return visualize.labelled_sheet(
        rows, class_names, palette, captions=captions, heading=heading, tile_width=tile_width
    )
