"""Pictures of labels, errors, scores, flow and training curves: numpy in, uint8 RGB (h, w, 3) out.

Labels are train ids (h, w); a palette is uint8 (k, 3), one RGB colour per class. Ids outside the palette (the ignore
label) are void.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

VOID = (0, 0, 0)
INK = (45, 49, 56)
FAINT = (122, 128, 138)
PAPER = (255, 255, 255)
WRONG = (214, 39, 60)
GAP = 8  # pixels between the tiles of a sheet


# Labels


def colorize(labels: np.ndarray, palette: np.ndarray, *, void: Sequence[int] = VOID) -> np.ndarray:
    """Colour of each label. labels (h, w) int, palette (k, 3) uint8; returns (h, w, 3) uint8, `void` outside the
    palette."""
    palette = np.asarray(palette, np.uint8)
    table = np.concatenate([palette, np.asarray([void], np.uint8)])
    labels = np.asarray(labels)
    return table[np.where((labels >= 0) & (labels < len(palette)), labels, len(palette))]


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label; labels (h, w), returns bool (h, w)."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    edge[:-1] |= labels[1:] != labels[:-1]
    return edge


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: np.ndarray, *, alpha: float = 0.5, outline: bool = True
) -> np.ndarray:
    """The image tinted by its labels, with a line between classes; void pixels keep the image.

    image (h, w, 3) uint8, labels (h, w), alpha: share of the label's colour. The line is as wide as 1/500 of the
    picture's height.
    """
    colors = colorize(labels, palette)
    mixed = cv2.addWeighted(image, 1 - alpha, colors, alpha, 0)
    if outline:
        line = boundaries(labels)
        width = round(image.shape[0] / 500)
        if width > 1:
            line = cv2.dilate(line.astype(np.uint8), np.ones((width, width), np.uint8)).astype(bool)
        mixed[line] = cv2.addWeighted(colors, 0.6, np.full_like(colors, 255), 0.4, 0)[line]
    void = (labels < 0) | (labels >= len(palette))
    mixed[void] = image[void]
    return mixed


def error_map(
    prediction: np.ndarray, labels: np.ndarray, *, image: np.ndarray | None = None, ignore_label: int = 255
) -> np.ndarray:
    """Wrong pixels in red over a pale grey image (or plain grey), void pixels dark. prediction, labels (h, w)."""
    if image is None:
        background = np.full((*labels.shape, 3), 225, np.uint8)
    else:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=-1)
        background = cv2.addWeighted(grey, 0.4, np.full_like(grey, 255), 0.6, 0)
    valid = labels != ignore_label
    picture = np.where(valid[..., None], background, (background * 0.45).astype(np.uint8))
    wrong = valid & (prediction != labels)
    picture[wrong] = (0.12 * picture[wrong] + 0.88 * np.asarray(WRONG)).astype(np.uint8)
    return picture


# Text


@functools.cache
def _font(size: int, bold: bool):
    # matplotlib brings its own TrueType font, so text looks the same with every OpenCV and needs no system font.
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    path = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    font = FT2Font(path)
    font.set_size(size, 72)
    return font


def _text(line: str, size: int, bold: bool = False) -> np.ndarray:
    """Coverage of a line of text, (h, w) float in 0..1; h depends on the size only, so that lines share a baseline."""
    font = _font(size, bold)
    font.set_text(line or " ", 0.0)
    font.draw_glyphs_to_bitmap(antialiased=True)
    glyphs = np.asarray(font.get_image(), np.float32) / 255
    _, total = font.get_width_height()
    descent = int(math.ceil(font.get_descent() / 64))
    ascent = int(total / 64) - descent
    height, baseline = round(size * 1.35), round(size * 1.02)
    canvas = np.zeros((height + glyphs.shape[0], glyphs.shape[1]), np.float32)
    top = max(0, baseline - max(ascent, glyphs.shape[0] - descent))
    canvas[top : top + glyphs.shape[0]] = glyphs
    return canvas[:height]


def write(
    picture: np.ndarray, line: str, x: int, y: int, *, size: int = 14, color: Sequence[int] = INK, bold: bool = False
) -> int:
    """Writes a line of text into the picture, in place, its top left corner at (x, y); cut at the picture's edge.
    Returns the line's width."""
    cover = _text(line, size, bold)
    width = cover.shape[1]
    cover = cover[: max(0, picture.shape[0] - y), : max(0, picture.shape[1] - x), None]
    area = picture[y : y + cover.shape[0], x : x + cover.shape[1]]
    area[:] = (area * (1 - cover) + cover * np.asarray(color, np.float32) + 0.5).astype(np.uint8)
    return width


def _shorten(line: str, width: int, size: int, bold: bool = False) -> str:
    """The line, or its end after an ellipsis where it is wider than `width` (the end of a file name says most)."""
    while len(line) > 1 and _text(line, size, bold).shape[1] > width:
        line = "…" + line.lstrip("…")[1:]
    return line


# Sheets


def legend(names: Sequence[str], palette: np.ndarray, *, width: int, size: int = 13) -> np.ndarray:
    """Swatches with class names, flowing in rows of equal columns; returns (h, width, 3)."""
    box = round(size * 1.25)
    cell = max(_text(name, size).shape[1] for name in names) + box + 3 * GAP
    columns = max(1, min(len(names), width // cell))
    rows = math.ceil(len(names) / columns)
    columns = math.ceil(len(names) / rows)  # as many in each row as possible
    cell = width // columns
    line = box + GAP
    picture = np.full((rows * line + GAP, width, 3), PAPER, np.uint8)
    for i, name in enumerate(names):
        y, x = GAP // 2 + (i // columns) * line, (i % columns) * cell
        cv2.rectangle(picture, (x, y), (x + box - 1, y + box - 1), tuple(int(v) for v in palette[i]), -1)
        cv2.rectangle(picture, (x, y), (x + box - 1, y + box - 1), (190, 190, 190), 1)
        write(picture, name, x + box + GAP // 2 + 2, y + (box - round(size * 1.35)) // 2, size=size)
    return picture


def sheet(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    captions: Sequence[str] = (),
    titles: Sequence[str] = (),
    heading: str = "",
    foot: np.ndarray | None = None,
    tile_width: int = 480,
) -> np.ndarray:
    """Rows of pictures under column titles, a caption over each row, and one picture (a legend, say) across the foot.

    rows: each a list of (h, w, 3) uint8, or None for an empty place; all are resized to tile_width, heights follow.
    captions: one per row. titles: one per column. foot: (h, w, 3), at most as wide as `sheet_width`.
    """
    columns = max(len(row) for row in rows)
    width = sheet_width(columns, tile_width)
    size = max(11, min(16, tile_width // 26))
    line = round(size * 1.35) + GAP // 2
    parts = [np.full((GAP, width, 3), PAPER, np.uint8)]

    def strip(height):
        parts.append(np.full((height, width, 3), PAPER, np.uint8))
        return parts[-1]

    if heading:
        write(
            strip(round(line * 1.5)),
            _shorten(heading, width - 2 * GAP, size + 4, True),
            GAP,
            0,
            size=size + 4,
            bold=True,
        )
    if titles:
        band = strip(line)
        for i, title in enumerate(titles):
            write(band, title, GAP + i * (tile_width + GAP), 0, size=size, bold=True)
    for i, row in enumerate(rows):
        if i < len(captions):
            write(strip(line), _shorten(captions[i], width - 2 * GAP, size), GAP, 0, size=size, color=FAINT)
        tiles = [None if tile is None else _to_width(tile, tile_width) for tile in row]
        height = max(tile.shape[0] for tile in tiles if tile is not None)
        band = strip(height + GAP)
        for j, tile in enumerate(tiles):
            if tile is not None:
                x = GAP + j * (tile_width + GAP)
                band[: tile.shape[0], x : x + tile_width] = tile
    if foot is not None:
        band = strip(foot.shape[0] + GAP)
        inner = foot[:, : width - 2 * GAP]
        band[: inner.shape[0], GAP : GAP + inner.shape[1]] = inner
    return np.concatenate(parts)


def sheet_width(columns: int, tile_width: int) -> int:
    """Width in pixels of a sheet, borders included."""
    return columns * (tile_width + GAP) + GAP


def _to_width(tile: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(tile.shape[0] * width / tile.shape[1]))
    if tile.shape[1] == width:
        return tile
    return cv2.resize(
        tile, (width, height), interpolation=cv2.INTER_AREA if tile.shape[1] > width else cv2.INTER_LINEAR
    )


# Plots


def _figure(width: float, height: float, dpi: int):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")  # no pyplot: no global state, any thread
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def confusion_plot(matrix: np.ndarray, class_names: Sequence[str], *, dpi: int = 110) -> np.ndarray:
    """Confusion matrix, each row (truth) divided by its sum, with the share in percent in each cell of at least 0.5 %.

    matrix (k, k) counts, row = truth, column = prediction. Classes without a pixel in the truth have an empty row.
    """
    k = len(matrix)
    total = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, total, out=np.full((k, k), np.nan), where=total > 0)
    side = 2.6 + 0.42 * k
    figure = _figure(side, side, dpi)
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # square root: small confusions stay visible
    axes.set_facecolor("#f2f2f2")  # shows where a row is empty
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
    """Training curves, one panel per kind of number, from a JSON-lines file or a list of records.

    panels: title -> words; a panel shows every key whose last part after "/" holds one of the words. Panels without
        data are left out.
    Lines with many points are drawn pale under their running mean. A last line that a killed run left half written is
    skipped.
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
    """A line of `line_plot`: y over x, error: half the length of the bar at each point, () for none; color: number of
    the colour, None counts the lines."""

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
    dpi: int = 120,
) -> np.ndarray:
    """Lines with points and error bars; those of one name share an entry of the legend. level, level_name: a dotted
    line at y. Returns uint8 (h, w, 3)."""
    figure = _figure(7, 4.2, dpi)
    axes = figure.add_subplot()
    if level is not None:
        axes.axhline(level, color="#2d3138", linewidth=1, linestyle=":", label=level_name or None)
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
    axes.set_xticks(sorted({x for line in lines for x in line.x}))
    axes.set_xlabel(x_label, fontsize=10)
    axes.set_ylabel(y_label, fontsize=10)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if len(named) > 1 or level_name:
        axes.legend(frameon=False, fontsize=9)
    return _pixels(figure)


def _is_about(key: str, words: Sequence[str]) -> bool:
    last = key.split("/")[-1].lower()
    return any(word == last or word in last.split("_") for word in words)


def _read_log(path: str | Path) -> list[dict]:
    records = []
    for line in Path(path).read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return [record for record in records if isinstance(record, dict)]


def _running_mean(y: np.ndarray, width: int) -> np.ndarray:
    if len(y) <= 2 * width:
        return y
    kernel = np.ones(2 * width + 1)
    return np.convolve(y, kernel, "same") / np.convolve(np.ones_like(y), kernel, "same")


# Flow


@functools.cache
def _color_wheel() -> np.ndarray:
    """The 55 colours of the Middlebury flow wheel, (55, 3) float in 0..255 (Baker et al., IJCV 2011)."""
    steps = (
        ("R", 15, "G", 1),
        ("G", 6, "R", -1),
        ("G", 4, "B", 1),
        ("B", 11, "G", -1),
        ("B", 13, "R", 1),
        ("R", 6, "B", -1),
    )
    wheel, channel = [], {"R": 0, "G": 1, "B": 2}
    for full, count, moving, direction in steps:
        ramp = np.floor(255 * np.arange(count) / count)
        part = np.zeros((count, 3))
        part[:, channel[full]] = 255
        part[:, channel[moving]] = ramp if direction > 0 else 255 - ramp
        wheel.append(part)
    return np.concatenate(wheel)


def flow_to_color(flow: np.ndarray, *, max_motion: float | None = None) -> np.ndarray:
    """Flow field as colours: hue = direction, saturation = length; white = no motion, black = not finite.

    flow (h, w, 2): u to the right, v down, in pixels. max_motion: length of full saturation, default the longest
    vector; longer ones are darker.
    """
    finite = np.isfinite(flow).all(-1)
    u, v = np.where(finite[..., None], flow, 0).astype(np.float64).transpose(2, 0, 1)
    radius = np.hypot(u, v)
    limit = max_motion or float(radius.max()) or 1.0
    radius = radius / limit
    wheel = _color_wheel() / 255
    position = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(position).astype(int)
    share = (position - low)[..., None]
    color = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    inside = (radius <= 1)[..., None]
    color = np.where(inside, 1 - radius[..., None] * (1 - color), 0.75 * color)
    return np.where(finite[..., None], np.floor(255 * color), 0).astype(np.uint8)
