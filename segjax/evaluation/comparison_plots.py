"""Plots of a comparison: the first column over the axis, and its differences to the baseline."""

from __future__ import annotations

import numpy as np

from segjax import visualize
from segjax.evaluation.comparison import Cell, Comparison, differences
from segjax.evaluation.intervals import t_interval


def plot(comparison: Comparison) -> np.ndarray:
    """Plots the first column over the axis, one line per series, with standard deviations as error bars.

    A baseline with a single place is a dotted horizontal line. A series whose only cell another series begins with is
    not drawn. Text on the axis has equal distances.

    Returns uint8 (h, w, 3).
    """
    column, places = comparison.columns[0], comparison.places
    scale = 100 if column.percent else 1
    key, known = column.key, [cell for cell in comparison.cells if cell.known(column.key)]
    base = [cell for cell in known if cell.series == comparison.baseline]
    level = base[0] if len(base) == 1 else None
    drawn = [cell for cell in known if not _is_elsewhere(cell, known, level)] or known
    names = list(dict.fromkeys(cell.series for cell in drawn))
    groups = list(dict.fromkeys(cell.group or cell.series for cell in drawn))
    lines = []
    for name in names:
        row = sorted((cell for cell in drawn if cell.series == name), key=lambda cell: places.index(cell.at))
        lines.append(
            visualize.Line(
                name,
                [places.index(cell.at) if comparison.has_text else float(cell.at) for cell in row],
                [scale * (cell.mean(key) or 0.0) for cell in row],
                [scale * (cell.deviation(key) or 0.0) for cell in row],
                color=groups.index(row[0].group or name),
                dashed=row[0].style == "dashed",
            )
        )
    interval = t_interval(level.known(key)) if level else None
    band = scale * (interval.half_width or 0.0) if interval and comparison.band else 0.0
    level_name = f"{comparison.baseline}, with 95 % interval" if band else comparison.baseline
    return visualize.line_plot(
        lines,
        title=comparison.title,
        x_label=comparison.axis,
        y_label=column.heading,
        level=scale * interval.mean if interval else None,
        level_name=level_name if interval else "",
        level_band=band,
        ticks=list(map(str, places)) if comparison.has_text else (),
    )


def differences_plot(comparison: Comparison) -> np.ndarray | None:
    """Plots the differences of the first column with their 95 % intervals, one below the other, beside 0.

    Returns uint8 (h, w, 3), None if no difference has an interval.
    """
    column = comparison.columns[0]
    scale = 100 if column.percent else 1
    found = [d for d in differences(comparison, key=column.key) if d.interval and d.interval.half_width is not None]
    if not found:
        return None
    return visualize.interval_plot(
        [f"{comparison.name_of(d.cell)} minus {comparison.name_of(d.baseline)}" for d in found],
        [scale * d.interval.mean for d in found if d.interval],
        [scale * (d.interval.half_width or 0.0) for d in found if d.interval],
        title=comparison.title,
        x_label=f"difference of {column.label}{', points' if column.percent else ''}, 95 % interval",
    )


def _is_elsewhere(cell: Cell, cells: list[Cell], level: Cell | None) -> bool:
    """Whether a cell is the level, or alone in its series and part of a longer one too."""
    names = [other.series for other in cells]
    longer = any(names.count(other.series) > 1 and other.stages == cell.stages for other in cells)
    return cell is level or (names.count(cell.series) == 1 and longer)
