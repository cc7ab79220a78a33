"""Confusion matrix of a whole dataset, its worst and best images, in constant memory, on any number of hosts."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from segjax import metrics, parallel
from segjax.typing import Array

MAIN = "logits"  # the output that is ranked and observed


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One image with its scores.

    record: index in the source.
    miou: mean IoU over the classes in its truth or prediction, 0..1.
    pixel_accuracy: share of valid pixels that are right, 0..1.
    image: uint8 (h, w, 3).
    label, prediction: train ids (h, w).
    others: name -> prediction of each further output of the network.
    """

    record: int
    miou: float
    pixel_accuracy: float
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    matrix: int64 (k, k), row = truth, column = prediction.
    images: number of images counted.
    seconds: wall time.
    worst: images with the lowest mIoU, worst first.
    best: images with the highest mIoU, best first.
    kept: images that were asked for.
    others: name -> matrix of each further output of the network.
    """

    matrix: np.ndarray
    images: int
    seconds: float
    worst: tuple[ImageScore, ...] = ()
    best: tuple[ImageScore, ...] = ()
    kept: tuple[ImageScore, ...] = ()
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def scores(self) -> dict:
        """IoU and accuracies of the matrix; see `segjax.metrics.iou_scores`."""
        return metrics.iou_scores(self.matrix)


class _Ranked:
    """The `count` images with the lowest mIoU, or the highest; of equals, the first."""

    def __init__(self, count: int, *, highest: bool = False):
        self.count, self._sign = count, 1 if highest else -1
        self._heap: list[tuple[float, int, ImageScore]] = []  # on top: the image that the next one replaces

    def takes(self, miou: float, record: int) -> bool:
        """Returns whether an image belongs to them."""
        rank = (self._sign * miou, -record)
        return len(self._heap) < self.count or bool(self.count) and rank > self._heap[0][:2]

    def add(self, found: ImageScore) -> None:
        """Adds an image that `takes` accepts; what it replaces is dropped."""
        add = heapq.heappush if len(self._heap) < self.count else heapq.heapreplace
        add(self._heap, (self._sign * found.miou, -found.record, found))

    def ordered(self) -> tuple[ImageScore, ...]:
        """Returns the images, the extreme one first."""
        return tuple(entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))


def evaluate(
    predict_fn: Callable[[Array], Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    num_classes: int,
    ignore_label: int = 255,
    worst: int = 0,
    best: int = 0,
    keep: Collection[int] = (),
    sharding: NamedSharding | None = None,
    observe: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Counts predictions against labels over all batches; all hosts return the same Evaluation.

    Device work of a batch overlaps with reading the next one. Each image is counted in int32 on the device, and images
    are summed in int64 on the host.

    predict_fn: images uint8 (b, h, w, 3) on the device -> class ids int (b, h, w), or logits (b, h, w, k). Or name ->
        such ids, of several outputs: "logits", by which images are ranked and which is observed, and others.
    batches: dicts of this host's rows: image uint8 (b, h, w, 3), label uint8 (b, h, w), weight float32 (b,) with 0 for
        padding rows, record int32 (b,). Every host must yield the same number of batches with the same shapes.
    worst, best: number of worst and of best images to keep; all others are dropped after their batch.
    keep: records of further images to keep.
    sharding: of images (b, h, w, 3) over the devices of all hosts, None = one device. The height is split only if it is
        divisible.
    observe: called on every host for each image, with its record, prediction uint8 (h, w) and label uint8 (h, w).
    progress: called after each batch with the number of images counted so far.
    """
    spread, score, pick_row, maps = _programs(num_classes, ignore_label, sharding)
    matrices: dict[str, np.ndarray] = {}
    images = 0
    lowest, highest, kept = _Ranked(worst), _Ranked(best, highest=True), {}

    def start(batch):
        batch = {name: batch[name] for name in ("image", "label", "weight", "record")}
        batch = jax.device_put(batch) if sharding is None else parallel.shard_batch(batch, sharding.mesh)
        if sharding is not None and _divides(sharding, batch["image"].shape):
            batch["image"] = spread(batch["image"])
        found = predict_fn(batch["image"])
        found = found if isinstance(found, Mapping) else {MAIN: found}
        outputs = {name: _class_ids(ids) for name, ids in found.items()}
        return batch, outputs, score(outputs, batch["label"], batch["weight"], batch["record"])

    def finish(batch, outputs, counted):
        nonlocal images
        counts, weight, record = parallel.fetch_replicated(counted) if sharding else jax.device_get(counted)
        others = [name for name in outputs if name != MAIN]
        if observe:
            predictions, labels = map(_on_host, maps(outputs[MAIN], batch["label"]))
        for row in np.flatnonzero(weight > 0):  # the numbers are the same on all hosts, and so are the branches
            images += 1
            for name in outputs:
                matrices[name] = matrices.get(name, 0) + counts[name][row].astype(np.int64)
            number = int(record[row])
            if observe:
                observe(number, predictions[row], labels[row])
            if not (worst or best or keep):
                continue
            scores = metrics.iou_scores(counts[MAIN][row].astype(np.int64))
            ranks = [rank for rank in (lowest, highest) if rank.takes(scores["miou"], number)]
            if not counts[MAIN][row].any():  # without a label there is no score
                ranks = []
            if ranks or number in keep:
                arrays = (batch["image"], batch["label"], outputs[MAIN], *(outputs[name] for name in others))
                image, label, prediction, *predicted = (_on_host(pick_row(x, row)) for x in arrays)
                found = ImageScore(
                    number,
                    float(scores["miou"]),
                    float(scores["pixel_accuracy"]),
                    image,
                    label,
                    prediction,
                    dict(zip(others, predicted)),
                )
                for rank in ranks:
                    rank.add(found)
                if number in keep:
                    kept[number] = found
        if progress:
            progress(images)

    begin = time.perf_counter()
    running = None
    for batch in batches:
        started = start(batch)
        if running:
            finish(*running)
        running = started
    if running:
        finish(*running)
    return Evaluation(
        matrices.pop(MAIN, np.zeros((num_classes, num_classes), np.int64)),
        images,
        time.perf_counter() - begin,
        lowest.ordered(),
        highest.ordered(),
        tuple(kept[record] for record in sorted(kept)),
        matrices,
    )


@functools.lru_cache(maxsize=16)
def _programs(num_classes: int, ignore_label: int, sharding: NamedSharding | None):
    """Returns the programs that run beside the network, cached: the next evaluation compiles nothing."""
    replicated = None if sharding is None else parallel.replicated(sharding.mesh)
    spread = jax.jit(lambda images: images, out_shardings=sharding)
    count = functools.partial(_count_per_image, num_classes=num_classes, ignore_label=ignore_label)
    score = jax.jit(count, out_shardings=replicated)
    pick_row = jax.jit(lambda rows, i: rows[i], out_shardings=replicated)
    maps = jax.jit(lambda *maps: tuple(x.astype(jnp.uint8) for x in maps), out_shardings=replicated)
    return spread, score, pick_row, maps


def _count_per_image(predictions, label, weight, record, *, num_classes, ignore_label):
    """Returns name -> confusion matrix of each row, int32 (b, k, k); weights and records, which every host needs."""
    count = functools.partial(metrics.confusion_matrix, num_classes=num_classes, ignore_label=ignore_label)
    return {name: jax.vmap(count)(ids, label) for name, ids in predictions.items()}, weight, record


def _on_host(array: jax.Array) -> np.ndarray:
    return np.asarray(array.addressable_shards[0].data)


def _class_ids(prediction: Array) -> Array:
    return jnp.argmax(prediction, axis=-1).astype(jnp.int32) if prediction.ndim == 4 else prediction


def _divides(sharding: NamedSharding, shape: tuple[int, ...]) -> bool:
    try:
        sharding.shard_shape(shape)
    except ValueError:
        return False
    return True
