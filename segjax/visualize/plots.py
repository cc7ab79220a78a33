"""Plots: the confusion matrix, training curves of a log, lines with error bars."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def _figure(width: float, height: float, dpi: int):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")  # pyplot has global state
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def confusion_plot(matrix: np.ndarray, class_names: Sequence[str], *, dpi: int = 110) -> np.ndarray:
    """Plots a confusion matrix, each row divided by its sum; cells of at least 0.5 % show their share in percent.

    A class without a pixel in the truth has an empty row.

    matrix: counts (k, k), row = truth, column = prediction.
    dpi: dots per inch.
    Returns uint8 (h, w, 3).
    """
    k = len(matrix)
    total = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, total, out=np.full((k, k), np.nan), where=total > 0)
    side = 2.6 + 0.42 * k
    figure = _figure(side, side, dpi)
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the square root keeps small confusions visible
    axes.set_facecolor("#f2f2f2")  # colour of empty rows
    names = list(class_names)
    axes.set_xticks(range(k), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(k), names, fontsize=9)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title("Share of each true class, percent", fontsize=11, loc="left")
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if k <= 40:
        for i, j in np.argwhere(share >= 0.005):
            dark = share[i, j] > 0.35
            axes.text(
                j,
                i,
                f"{100 * share[i, j]:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "#2d3138",
            )
    return _pixels(figure)


PANELS = {"loss": ("loss",), "learning rate": ("lr", "learning_rate"), "mIoU": ("miou",)}


def curves(
    log: str | Path | Sequence[Mapping[str, float]],
    *,
    panels: Mapping[str, Sequence[str]] = PANELS,
    step: str = "step",
    dpi: int = 110,
) -> np.ndarray:
    """Plots training curves, one panel per kind of number.

    A loss with many points is drawn pale under its running mean. Lines of the file that are no JSON, such as the last
    one of a killed run, are skipped, and so are panels without data.

    log: JSON-lines file, or list of records.
    panels: title -> words; a panel shows every key whose last part after "/" contains one of the words.
    step: key of the horizontal axis.
    dpi: dots per inch.

    Returns uint8 (h, w, 3). Raises ValueError if no panel has data.
    """
    records = _read_log(log) if isinstance(log, (str, Path)) else list(log)
    keys = list(dict.fromkeys(key for record in records for key, v in record.items() if isinstance(v, (int, float))))
    chosen = {title: [key for key in keys if key != step and _is_about(key, words)] for title, words in panels.items()}
    chosen = {title: found for title, found in chosen.items() if found}
    if not chosen:
        raise ValueError(f"no record has a key for any of the panels {list(panels)}; the keys are {keys}")
    figure = _figure(5.2 * len(chosen), 3.4, dpi)
    for i, (title, found) in enumerate(chosen.items()):
        axes = figure.add_subplot(1, len(chosen), i + 1)
        for number, key in enumerate(found):
            points = [(r[step], r[key]) for r in records if key in r and step in r and math.isfinite(r[key])]
            if not points:
                continue
            x, y = np.asarray(points, float).T
            color = f"C{number}"
            smooth = _running_mean(y, max(1, len(y) // 40)) if title == "loss" else y
            if smooth is not y and len(y) > 40:
                axes.plot(x, y, color=color, alpha=0.22, linewidth=0.8)
            axes.plot(
                x, smooth, color=color, linewidth=1.6, label=key, marker="o" if len(y) <= 30 else None, markersize=3
            )
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(step, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if len(found) > 1:
            axes.legend(frameon=False, fontsize=8)
    return _pixels(figure)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of `line_plot`.

    name: entry of the legend.
    x, y: coordinates of its points.
    error: half the length of the error bar at each point, () = no bars.
    color: number of the colour, None = number of the line.
    dashed: whether the line is dashed.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] = ()
    color: int | None = None
    dashed: bool = False


def line_plot(
    lines: Sequence[Line],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    level: float | None = None,
    level_name: str = "",
    level_band: float = 0.0,
    ticks: Sequence[str] = (),
    places: Sequence[float] = (),
    beside: bool = False,
    from_zero: bool = False,
    log_x: bool = False,
    dpi: int = 120,
) -> np.ndarray:
    """Plots lines with points and error bars; lines of one name share an entry of the legend.

    level, level_name: y and name of a horizontal dotted line, None = no line.
    level_band: half the height of a band around that line, 0 = none.
    ticks: text for x = 0, 1, 2, ..., () = the numbers themselves.
    places: numbers on the horizontal axis, () = the x of all points.
    beside: whether the legend stands beside the plot instead of in it.
    from_zero: whether the vertical axis begins at 0.
    log_x: whether the horizontal axis is logarithmic.
    dpi: dots per inch.
    Returns uint8 (h, w, 3).
    """
    from matplotlib.ticker import LogFormatter

    figure = _figure(8.6 if beside else 7, 4.2, dpi)
    axes = figure.add_subplot()
    if level is not None:
        axes.axhline(level, color="#2d3138", linewidth=1, linestyle=":", label=level_name or None)
        if level_band:
            axes.axhspan(level - level_band, level + level_band, color="#2d3138", alpha=0.08, linewidth=0)
    named = set()
    for number, line in enumerate(lines):
        axes.errorbar(
            line.x,
            line.y,
            yerr=line.error if len(line.error) and any(line.error) else None,
            color=f"C{number if line.color is None else line.color}",
            linestyle="--" if line.dashed else "-",
            linewidth=1.6,
            marker="o",
            markersize=4,
            capsize=3,
            label=None if line.name in named else line.name,
        )
        named.add(line.name)
    if ticks:
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.4, len(ticks) - 0.6)
    elif log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))  # few numbers on a long axis
    else:
        axes.set_xticks(places or sorted({x for line in lines for x in line.x}))
    if from_zero:
        axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1))
    axes.set_xlabel(x_label, fontsize=10)
    axes.set_ylabel(y_label, fontsize=10)
    axes.set_title(textwrap.fill(title, 95), loc="left", fontsize=11)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if beside:
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    elif len(named) > 1 or level_name:
        axes.legend(frameon=False, fontsize=9)
    return _pixels(figure)


def interval_plot(
    names: Sequence[str],
    middles: Sequence[float],
    half_widths: Sequence[float],
    *,
    title: str = "",
    x_label: str = "",
    dpi: int = 120,
) -> np.ndarray:
    """Plots intervals one below the other, the first at the top, with a line at 0; those that contain 0 are grey.

    names: of the intervals.
    middles, half_widths: of the intervals.
    dpi: dots per inch.
    Returns uint8 (h, w, 3).
    """
    figure = _figure(7, 1.3 + 0.2 * (len(title) > 90) + 0.32 * len(names), dpi)
    axes = figure.add_subplot()
    axes.axvline(0, color="#2d3138", linewidth=1)
    for row, (middle, half) in enumerate(zip(middles, half_widths)):
        color = "#9aa0a6" if abs(middle) <= half else "C0" if middle > 0 else "C3"
        axes.errorbar(middle, row, xerr=half, color=color, marker="o", markersize=5, linewidth=1.8, capsize=3)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(x_label, fontsize=10)
    figure.suptitle(textwrap.fill(title, 90), x=0.01, ha="left", fontsize=11)  # the names may take half the width
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return _pixels(figure)


def _is_about(key: str, words: Sequence[str]) -> bool:
    last = key.split("/")[-1].lower()
    return any(word == last or word in last.split("_") for word in words)


def _read_log(path: str | Path) -> list[dict]:
    records = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [record for record in records if isinstance(record, dict)]


def _running_mean(y: np.ndarray, width: int) -> np.ndarray:
    if len(y) <= 2 * width:
        return y
    kernel = np.ones(2 * width + 1)
    return np.convolve(y, kernel, "same") / np.convolve(np.ones_like(y), kernel, "same")
