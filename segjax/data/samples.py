"""Samples: what a training run reads, sample by sample. Crops of labelled images here, triples of frames in `triplets`.

Batches are made in `pipeline`, the same way for any samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from segjax.data.classes import IGNORE_LABEL
from segjax.data.geometry import cut, draw_crop, window_size
from segjax.data.sources import Record, Source
from segjax.data.stream import Sample
from segjax.data.timeline import Bucket
from segjax.errors import UserError

Spec = dict[str, tuple[tuple[int, ...], Any]]


class Samples(Protocol):
    """What a training run reads: n samples by number; picklable, safe to read from several threads and processes.

    names: n strings, for reports.
    sizes: int (n, 2), height and width in pixels, without decoding images.
    """

    @property
    def names(self) -> list[str]:
        """Names of the samples."""

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the samples, int (n, 2)."""

    def __len__(self) -> int:
        """Number of samples n."""

    def spec(self, bucket: Bucket) -> Spec:
        """Returns name -> (shape, dtype) of the arrays that `read` returns for one sample of a bucket."""

    def read(self, record: int, place: np.ndarray, bucket: Bucket, rng: np.random.Generator) -> Sample:
        """Returns the arrays of one sample.

        record: number of the sample, 0 .. n - 1.
        place: int (2,), the pixel (y, x) that the crop must show, or -1 for anywhere.
        bucket: whose crop size the sample gets.
        rng: source of all that is drawn for the sample.

        Raises UserError for a record that is damaged or lacks what is read.
        """

    def check(self, buckets: Iterable[Bucket]) -> None:
        """Raises UserError if a bucket's crop cannot be made from the samples; reads no image."""


def batch_spec(samples: Samples, bucket: Bucket) -> Spec:
    """Returns name -> (shape, dtype) of the arrays of a global batch of b samples.

    The arrays of `samples.spec` with a leading axis b, and three of int32 (b,): index (position in the epoch), epoch,
    and record (number of the sample).
    """
    b = bucket.batch
    arrays = {name: ((b, *shape), dtype) for name, (shape, dtype) in samples.spec(bucket).items()}
    return arrays | {name: ((b,), np.int32) for name in ("index", "epoch", "record")}


@dataclasses.dataclass(eq=False)
class ImageCrops:
    """Random crops of labelled images.

    source: the images; `Reading.cached` keeps decoded ones in memory.
    scale_range: (smallest, largest) factor that images are enlarged by.
    unlabelled: (first, end) numbers of records that need no label; one without has 255 everywhere.

    Arrays of a sample, for the window (H, W) of `window_size`:
        image uint8 (H, W, 3)  part of the source image; 0 beyond the right and lower end of a smaller image
        label uint8 (H, W)     train ids; 255 there
        extent float32 (4,)    y0, x0, y1, x1 of the image's pixels in the window, pixel edges
        box float32 (4,)       y0, x0, y1, x1 of the crop in the window; what lies outside the extent is padding
    and if the source has soft labels, of top_k classes:
        soft_ids uint8 (H, W, top_k)     train ids, most probable first, 255 = none
        soft_shares uint8 (H, W, top_k)  their probabilities, 255 = 1; 0 beyond the image
    A record without soft labels has its label there, with probability 1.

    The enlargement itself happens on the device (`segjax.augment`).
    """

    source: Source
    scale_range: tuple[float, float] = (1.0, 1.0)
    unlabelled: Sequence[tuple[int, int]] = ()

    def __post_init__(self):
        self.scale_range = tuple(self.scale_range)
        self._windows: dict[Bucket, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.source)

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return self.source.names

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the images, int32 (n, 2)."""
        return self.source.sizes

    def window(self, bucket: Bucket) -> tuple[int, int]:
        """Returns the height and width (H, W) of a bucket's samples. Raises UserError as `window_size` does."""
        if bucket not in self._windows:  # once per bucket: the largest of all sizes is sought
            self._windows[bucket] = window_size(bucket.crop, self.scale_range, self.source.sizes)
        return self._windows[bucket]

    def check(self, buckets: Iterable[Bucket]) -> None:
        """Raises UserError for a wrong scale_range; images smaller than the crop are no error, but padded."""
        for bucket in buckets:
            self.window(bucket)

    def spec(self, bucket: Bucket) -> Spec:
        """Returns name -> (shape, dtype) of the arrays of one sample."""
        window, k = self.window(bucket), self.source.top_k
        soft = {name: ((*window, k), np.uint8) for name in ("soft_ids", "soft_shares")} if k else {}
        return {
            "image": ((*window, 3), np.uint8),
            "label": (window, np.uint8),
            "extent": ((4,), np.float32),
            "box": ((4,), np.float32),
            **soft,
        }

    def read(self, record: int, place: np.ndarray, bucket: Bucket, rng: np.random.Generator) -> Sample:
        """Draws a crop of an image and returns its window; arguments and errors as in `Samples.read`."""
        found, window = self.source[record], self.window(bucket)
        if found.label is None and any(first <= record < end for first, end in self.unlabelled):
            found = dataclasses.replace(found, label=np.full(found.image.shape[:2], IGNORE_LABEL, np.uint8))
        if found.label is None:
            raise UserError(f"{found.name} has no label to train on; open the split with labelled_only=True.")
        rows, columns = draw_crop(
            found.image.shape[:2],
            crop=bucket.crop,
            window=window,
            scale_range=self.scale_range,
            centroid=None if place[0] < 0 else (int(place[0]), int(place[1])),
            rng=rng,
        )
        start = (rows.start, columns.start)
        extent = [min(side - first, size) for side, first, size in zip(found.image.shape, start, window)]
        return dict(
            image=cut(found.image, start, window, fill=0),
            label=cut(found.label, start, window, fill=IGNORE_LABEL),
            **self._soft(found, start, window),
            extent=np.array([0, 0, *extent], np.float32),
            box=np.array([rows.low, columns.low, rows.high, columns.high], np.float32),
        )

    def _soft(self, found: Record, start: tuple[int, int], window: tuple[int, int]) -> dict[str, np.ndarray]:
        if not self.source.top_k:
            return {}
        ids, shares = found.soft_ids, found.soft_shares
        if ids is None:
            ids = found.label[..., None]
            shares = np.where(ids == IGNORE_LABEL, 0, 255).astype(np.uint8)
        ids, shares = cut(ids, start, window, fill=IGNORE_LABEL), cut(shares, start, window, fill=0)
        # another part may keep more classes
        more = [(0, 0), (0, 0), (0, self.source.top_k - ids.shape[-1])]
        return dict(soft_ids=np.pad(ids, more, constant_values=IGNORE_LABEL), soft_shares=np.pad(shares, more))
