"""A source whose records have another size: half-resolution Cityscapes or CamVid without building a dataset again.

All that reads records or sizes of a training or an evaluation reads them here: crops and their windows, places of
classes, epochs, neighbouring frames, batches of an evaluation. The original size remains where records are chosen by
their content (`train@10shot`), and in submissions, which servers score at that size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from segjax.data.image_files import MAX_PIXELS, encode_png
from segjax.data.sources import Record, Source, SourceView
from segjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Resize:
    """How large the images of a dataset are made: by a factor, or to a width.

    factor: of both sides, 0 if there is a width.
    width: in pixels, 0 if there is a factor; the height keeps the shape of the image.
    """

    factor: float = 0.0
    width: int = 0

    def sizes(self, sizes: np.ndarray) -> np.ndarray:
        """Returns the new height and width of images, int32 (n, 2): rounded, halves up, and at least 1 pixel.

        sizes: int (n, 2), height and width.
        """
        sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        if self.width:
            wide = sizes[:, 1]
            new = np.stack([(2 * sizes[:, 0] * self.width + wide) // (2 * wide), np.full_like(wide, self.width)], 1)
        else:
            new = np.floor(sizes * self.factor + 0.5)
        return np.maximum(new, 1).astype(np.int32)

    def __str__(self) -> str:
        return f"to width {self.width}" if self.width else f"by {self.factor:g}"


def read_resize(value: Any, where: str) -> Resize | None:
    """Reads the config key `resize`: a factor, {"width": pixels}, or "", None or {} for the original size.

    where: config key. Raises UserError for anything else.
    """
    if isinstance(value, Mapping) and set(value) == {"width"}:
        width = value["width"]
        if isinstance(width, int) and not isinstance(width, bool) and width > 0:
            return Resize(width=width)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < np.inf:
        return Resize(factor=float(value)) if value != 1 else None
    elif value is None or value in ("", {}):
        return None
    raise UserError(
        f"config key {where}={value!r} must be a factor above 0, such as 0.5, or a width in pixels, such as "
        "dict(width=2048); leave it out for the original size."
    )


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an image uint8 (h, w, c) at a size (h', w').

    Shrinks by OpenCV's INTER_AREA: each new pixel is the mean of the area that it covers, so that nothing aliases. Its
    INTER_LINEAR and INTER_CUBIC read 2 or 4 pixels a side at any factor, and skip the others. Enlarges by INTER_CUBIC.
    LDN's code scales with Pillow's bicubic, whose kernel grows with the factor. CamVid at half its size differs from
    that by 0.8 grey levels on average (by INTER_CUBIC: 1.8), in a twentieth of its time.
    """
    if image.shape[:2] == size:
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an array (h, w, ...) at a size (h', w'): of each new pixel's centre, the old pixel that it lies in.

    A centre on the edge of two pixels takes the right or lower one, as Pillow's NEAREST does but for its rounding.
    """
    if array.shape[:2] == size:
        return array
    rows, columns = (
        (2 * np.arange(new, dtype=np.int64) + 1) * old // (2 * new) for new, old in zip(size, array.shape[:2])
    )
    return np.ascontiguousarray(array[rows][:, columns])


def resize_flow(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the flow float32 (h, w, 2) of resized frames: that of `resize_nearest`, in pixels of the new size."""
    scale = np.array([size[1] / flow.shape[1], size[0] / flow.shape[0]], np.float32)
    return resize_nearest(flow, size) * scale


_FIELDS = {
    "image": resize_image,
    "label": resize_nearest,
    "flow": resize_flow,
    "flow_valid": resize_nearest,
    "instances": resize_nearest,
    "soft_ids": resize_nearest,  # ids and shares of the same pixel: those of several pixels are of different classes
    "soft_shares": resize_nearest,
}


class Resized(SourceView):
    """A source whose images have another size, with all that belongs to their pixels.

    Attributes that are not defined here are those of the source: names, classes, what is stored of a record.

    source: the records.
    resize: their size.

    Raises UserError for an image that would have more than MAX_PIXELS.
    """

    def __init__(self, source: Source, resize: Resize):
        super().__init__(source)
        self.resize = resize
        pixels = self.sizes.prod(axis=1, dtype=np.int64)
        if pixels.max(initial=0) > MAX_PIXELS:
            largest = int(pixels.argmax())
            height, width = self.sizes[largest]
            raise UserError(
                f"{source.names[largest]}, resized {resize}, would have {width}x{height} pixels, and at most "
                f"{MAX_PIXELS / 1e6:.0f} million are read; lower resize."
            )

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Height and width of the records, int32 (n, 2)."""
        return self.resize.sizes(self.source.sizes)

    @functools.cached_property
    def index(self) -> Any:
        """The index of the source, if it has one, with the new sizes."""
        return dataclasses.replace(self.source.index, sizes=self.sizes)

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        size = tuple(map(int, self.resize.sizes(record.image.shape[:2])[0]))
        fields = ((name, function, getattr(record, name)) for name, function in _FIELDS.items())
        changed = {name: function(array, size) for name, function, array in fields if array is not None}
        return dataclasses.replace(record, **changed)

    def label(self, index: int) -> np.ndarray | None:
        """Returns the label of a record, without decoding its image; None if the record has none."""
        label = self.source.label(index)
        return None if label is None else resize_nearest(label, tuple(map(int, self.sizes[index])))

    def encoded_image(self, index: int) -> bytes:
        """Returns the image of a record as a PNG file; as it is stored if its size stays."""
        if (self.sizes[index] == self.source.sizes[index]).all():
            return self.source.encoded_image(index)
        return encode_png(self[index].image)
