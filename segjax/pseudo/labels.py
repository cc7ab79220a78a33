"""Pseudo labels of images by a trained network, and the records that store them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.data.classes import IGNORE_LABEL
from segjax.data.image_files import encode_png
from segjax.data.label_map import LabelMap
from segjax.data.referenced import reference
from segjax.data.threads import ordered_map
from segjax.errors import UserError
from segjax.media.frame_batches import predictions, same_size
from segjax.pseudo.pools import Pool, PoolImage

Place = tuple[int, int]  # number of a pool, number of an image in it


class Frame(NamedTuple):
    """An image of a pool; pool: number of it."""

    pool: int
    of: PoolImage

    @property
    def image(self) -> np.ndarray:
        """The pixels, uint8 (h, w, 3)."""
        return self.of.image


@dataclasses.dataclass(frozen=True)
class Labelled:
    """An image with its pseudo label.

    pool: number of its pool.
    image: see `PoolImage`.
    ids: uint8 (h, w), most probable class.
    confidence: uint8 (h, w), its probability times 255.
    label: uint8 (h, w), the same class, or 255 = ignored if its probability is below the threshold.
    soft_ids, soft_shares: uint8 (h, w, k), see `Record`; None for hard labels. Ignored pixels have 255 and 0.
    """

    pool: int
    image: PoolImage
    ids: np.ndarray
    confidence: np.ndarray
    label: np.ndarray
    soft_ids: np.ndarray | None = None
    soft_shares: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a shard as they were read, and (number of the pool, sentence) of those that cannot be read."""

    frames: Sequence[Frame]
    problems: Sequence[tuple[int, str]] = ()


@dataclasses.dataclass(frozen=True)
class Group:
    """The labelled images of a shard, in order; problems: see `Images`."""

    images: Sequence[Labelled]
    problems: Sequence[tuple[int, str]] = ()

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class Labeller:
    """Labels groups of images.

    A record depends on its own image only: every batch is full, so that one program computes all images of a size.

    network: images uint8 (b, h, w, 3) -> `Labels`, see `Network.labeller`.
    pools: of images.
    batch: images at once.
    thresholds: float32 (number of classes,), see `Labelled.label`.
    """

    network: Callable[[np.ndarray], Any]
    pools: Sequence[Pool]
    batch: int
    thresholds: np.ndarray

    def read(self, places: Iterable[Place]) -> Images:
        """Reads images. Raises UserError for a damaged record of a dataset."""

        def attempt(pool: int, place: int) -> PoolImage | UserError:
            try:
                return self.pools[pool].read(place)
            except UserError as error:
                if not self.pools[pool].lenient:
                    raise
                return error

        # frames of a video are read by the thread that makes the jobs, one after the other
        jobs = ((n, i, attempt(n, i) if self.pools[n].in_order(i) else None) for n, i in places)
        frames, problems = [], []
        for pool, found in ordered_map(lambda job: (job[0], job[2] or attempt(*job[:2])), jobs):
            if isinstance(found, UserError):
                problems.append((pool, str(found)))
            else:
                frames.append(Frame(pool, found))
        return Images(frames, problems)

    def __call__(self, read: Images) -> Group:
        """Labels images. Raises UserError for images that the network does not take."""
        labelled: dict[Place, Labelled] = {}
        for group, labels in predictions(self._run, same_size(read.frames, self.batch)):
            done = ordered_map(functools.partial(self._label, group, labels), range(len(group)))
            labelled.update({(one.pool, one.image.place): one for one in done})
        return Group([labelled[one.pool, one.of.place] for one in read.frames], read.problems)

    def _run(self, frames: Sequence[Frame]) -> Any:
        images = [frame.image for frame in frames]
        return self.network(np.stack(images + images[-1:] * (self.batch - len(images))))

    def _label(self, group: Sequence[Frame], labels: Any, row: int) -> Labelled:
        frame = group[row]
        ids, confidence = np.asarray(labels.ids[row]).astype(np.uint8), np.asarray(labels.confidence[row])
        low = confidence < self.thresholds[ids]
        soft = {}
        if labels.top_ids is not None:
            hidden = low[..., None]
            soft["soft_ids"] = np.where(hidden, np.uint8(IGNORE_LABEL), labels.top_ids[row])
            soft["soft_shares"] = np.where(hidden, np.uint8(0), labels.top_shares[row])
        return Labelled(
            frame.pool,
            frame.of,
            ids,
            np.rint(255 * confidence).astype(np.uint8),
            np.where(low, np.uint8(IGNORE_LABEL), ids),
            **soft,
        )


def features(*, soft: bool, confidence: bool, referenced: Mapping[str, str]) -> dict[str, str]:
    """Returns the features that the options add, see `RecordShards.extra`."""
    maps = (["soft_ids", "soft_shares"] if soft else []) + (["confidence"] if confidence else [])
    return {**dict.fromkeys(maps, "map"), **referenced}


def encode(
    one: Labelled, pool: Pool, label_map: LabelMap, tag: Mapping[str, str], *, confidence: bool, referenced: bool
) -> dict[str, Any]:
    """Returns the record of a labelled image.

    one: the image.
    pool: of the image.
    label_map: of the written dataset.
    tag: provenance that all records share.
    confidence: whether to store the map of confidences.
    referenced: whether the image stays in its file.
    """
    image = one.image
    if referenced:
        stored = reference(*image.file)
    else:
        stored = {"image": image.data or encode_png(image.image)}
    if one.soft_ids is not None:
        stored |= {name: encode_png(_stacked(getattr(one, name))) for name in ("soft_ids", "soft_shares")}
    if confidence:
        stored["confidence"] = encode_png(one.confidence)
    name = f"{pool.name}/{image.name}"
    return {
        **stored,
        "label": encode_png(label_map.decode(one.label, name)),
        "name": name,
        "sequence": f"{pool.name}/{image.sequence}" if image.sequence else "",
        "frame": image.frame,
        "height": one.label.shape[0],
        "width": one.label.shape[1],
        "labelled": True,
        "pool": pool.name,
        "source": pool.source,
        "source_name": image.name,
        **tag,
    }


def _stacked(planes: np.ndarray) -> np.ndarray:
    """Returns planes (h, w, k) one below the other, (k * h, w)."""
    return np.ascontiguousarray(np.moveaxis(planes, -1, 0).reshape(-1, planes.shape[1]))
