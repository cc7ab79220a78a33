"""Pictures of labels: as colours, over their image, and maps of errors.

Labels are train ids (h, w); a palette is uint8 (k, 3), one RGB colour per class. Ids outside the palette (the ignore
label) are void.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

VOID = (0, 0, 0)
WRONG = (214, 39, 60)
PICTURES = ("overlay", "side", "color", "ids")  # kinds of `label_picture`


def colorize(labels: np.ndarray, palette: np.ndarray, *, void: Sequence[int] = VOID) -> np.ndarray:
    """Colours labels.

    labels: int (h, w).
    palette: uint8 (k, 3).
    void: colour of ids outside the palette.
    Returns uint8 (h, w, 3).
    """
    palette = np.asarray(palette, np.uint8)
    table = np.concatenate([palette, np.asarray([void], np.uint8)])
    labels = np.asarray(labels)
    return table[np.where((labels >= 0) & (labels < len(palette)), labels, len(palette))]


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Returns bool (h, w): the pixels whose right or lower neighbour has another label; labels: (h, w)."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    edge[:-1] |= labels[1:] != labels[:-1]
    return edge


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: np.ndarray, *, alpha: float = 0.5, outline: bool = True
) -> np.ndarray:
    """Tints an image by its labels, with lines between classes; void pixels keep the image.

    image: uint8 (h, w, 3).
    labels: (h, w).
    alpha: share of the label's colour, 0..1.
    outline: whether to draw the lines, which are h / 500 pixels wide.
    Returns uint8 (h, w, 3).
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


def hatch(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Hatches the masked pixels of a picture, such as those that are not trained on.

    picture: uint8 (h, w, 3).
    mask: bool (h, w).
    Returns uint8 (h, w, 3).
    """
    h, w = mask.shape
    step = max(6, round(h / 40))
    y, x = np.mgrid[:h, :w]
    lines = (x + y) % step < max(1, step // 4)
    dark = (0.45 * picture).astype(np.uint8)
    return np.where(mask[..., None], np.where(lines[..., None], np.uint8(190), dark), picture)


def error_map(
    prediction: np.ndarray, labels: np.ndarray, *, image: np.ndarray | None = None, ignore_label: int = 255
) -> np.ndarray:
    """Draws wrong pixels in red over a pale grey image; void pixels are dark.

    prediction, labels: (h, w).
    image: uint8 (h, w, 3); None = plain grey.
    Returns uint8 (h, w, 3).
    """
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


def label_picture(
    kind: str,
    image: np.ndarray,
    ids: np.ndarray,
    palette: np.ndarray,
    *,
    alpha: float = 0.5,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Draws the labels of an image.

    kind: "overlay", "side" (image and overlay), "color", or "ids" as they are.
    image: uint8 (h, w, 3).
    ids: class ids (h, w).
    palette: uint8 (k, 3).
    alpha: share of the class colour in overlays.
    decode: ids -> ids of the picture "ids".
    Returns uint8 (h, w, 3), or ids (h, w). Raises ValueError for an unknown kind.
    """
    if kind not in PICTURES:
        raise ValueError(f"kind={kind!r}; choose one of {', '.join(PICTURES)}")
    if kind == "ids":
        return ids if decode is None else decode(ids)
    if kind == "color":
        return colorize(ids, palette)
    over = overlay(image, ids, palette, alpha=alpha)
    return np.concatenate([image, over], axis=1) if kind == "side" else over
