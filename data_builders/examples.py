"""Records made of the files of a published tree, in threads, from any position."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_builders.trees import Item
from segjax.data.folders import fingerprint
from segjax.data.image_files import decode_image, decode_mask, encode_png, is_plain_rgb, read_bytes
from segjax.data.label_map import LabelMap
from segjax.data.sources import check_size
from segjax.data.threads import ordered_map

ReadLabel = Callable[[Path], np.ndarray]  # file -> label in the coding of its label map


@dataclasses.dataclass(frozen=True)
class Examples:
    """Iterable of (index, record) over items; files are read and checked in threads, a few at a time.

    items: files of the records.
    label_map: of the raw ids.
    read_label: for labels that are no image files.
    instances: published instance map -> raw id * 1000 + number; None for no instance maps.
    enlarge: whether labels smaller than their image are enlarged to its size (nearest pixel).
    read_frame: for items that are frames of videos; called one item after the other, in their order.

    Raises UserError during iteration, for a damaged file, an unknown id, and a label of another size than its image.
    """

    items: Sequence[Item]
    label_map: LabelMap
    read_label: ReadLabel | None = None
    instances: Callable[[np.ndarray], np.ndarray] | None = None
    enlarge: bool = False
    read_frame: Callable[[Path, int], np.ndarray] | None = None  # (video, place) -> uint8 (h, w, 3) RGB

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return self.start_at(0)

    def identity(self, start: int, stop: int) -> str:
        """Returns a hash of records start .. stop - 1: of their files, their order, and the features that are read."""
        items = self.items[start:stop]
        files = {path for x in items for path in (x.image, x.label, x.instances) if path is not None}
        names = "\n".join(
            f"{x.name} {x.label is not None}" + (f" {x.place}" if x.place is not None else "") for x in items
        )
        text = f"{start} {names} {fingerprint(files)} {self.instances is not None}"
        return hashlib.sha256(text.encode()).hexdigest()

    def start_at(self, position: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the records from a position to the end."""
        yield from ordered_map(self._one, self._jobs(position))

    def _jobs(self, position: int) -> Iterator[tuple[int, Item, np.ndarray | None]]:
        """Yields (index, item, its image if it is a frame of a video); ordered_map runs this in one thread."""
        for index, item in enumerate(self.items[position:], start=position):
            yield index, item, None if item.place is None else self.read_frame(item.image, item.place)

    def _one(self, job: tuple[int, Item, np.ndarray | None]) -> tuple[int, dict[str, Any]]:
        index, item, image = job
        data = b""
        if image is None:
            data = read_bytes(item.image)
            image = decode_image(data, str(item.image))
        size = image.shape[:2]
        record = {
            "image": data if data and is_plain_rgb(data) else encode_png(image),
            "label": encode_png(self._label(item, size)),
            "name": item.name,
            "sequence": item.sequence,
            "frame": index if item.frame is None else item.frame,
            "height": size[0],
            "width": size[1],
            "labelled": item.label is not None,
        }
        if self.instances is not None:
            record["instances"] = encode_png(_instances(item, size, self.instances))
        return index, record

    def _label(self, item: Item, size: tuple[int, int]) -> np.ndarray:
        if item.label is None:
            return np.zeros(size, np.uint8)
        if self.read_label is not None:
            mask = self.read_label(item.label)
        else:
            coding, transparent = self.label_map.coding, self.label_map.transparent
            mask = decode_mask(read_bytes(item.label), str(item.label), coding=coding, transparent=transparent)
        if self.enlarge and mask.shape[:2] != size and _same_shape(mask.shape[:2], size):
            mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        check_size(mask.shape[:2], str(item.label), size, str(item.image))
        return self.label_map.raw_ids(mask, str(item.label))


def _same_shape(small: tuple[int, int], large: tuple[int, int]) -> bool:
    """Returns whether `small` is a reduced `large` up to 1 % of its sides, as 480x640 is of 968x1296."""
    factors = [side / other for side, other in zip(small, large)]
    return max(factors) < 1 and abs(factors[0] / factors[1] - 1) < 0.01


def _instances(item: Item, size: tuple[int, int], convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if item.instances is None:
        return np.zeros(size, np.uint16)
    published = decode_mask(read_bytes(item.instances), str(item.instances))
    check_size(published.shape, str(item.instances), size, str(item.image))
    return convert(published).astype(np.uint16)
