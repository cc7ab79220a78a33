"""Confusion matrix of a whole dataset and its worst images, in constant memory, on any number of hosts."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import time
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from segjax import metrics, parallel
from segjax.typing import Array


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One image with its scores.

    record: index in the source.
    miou: mean IoU over the classes in its truth or prediction, 0..1.
    pixel_accuracy: share of valid pixels that are right, 0..1.
    image: uint8 (h, w, 3).
    label, prediction: train ids (h, w).
    """

    record: int
    miou: float
    pixel_accuracy: float
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    matrix: int64 (k, k), row = truth, column = prediction.
    images: number of images counted.
    seconds: wall time.
    worst: images with the lowest mIoU, worst first.
    """

    matrix: np.ndarray
    images: int
    seconds: float
    worst: tuple[ImageScore, ...] = ()

    @property
    def scores(self) -> dict:
        """IoU and accuracies of the matrix; see `segjax.metrics.iou_scores`."""
        return metrics.iou_scores(self.matrix)


def evaluate(
    predict_fn: Callable[[Array], Array],
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    num_classes: int,
    ignore_label: int = 255,
    worst: int = 0,
    sharding: NamedSharding | None = None,
    observe: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Counts predictions against labels over all batches; all hosts return the same Evaluation.

    Device work of a batch overlaps with reading the next one. Each image is counted in int32 on the device, and images
    are summed in int64 on the host.

    predict_fn: images uint8 (b, h, w, 3) on the device -> class ids int (b, h, w), or logits (b, h, w, k).
    batches: dicts of this host's rows: image uint8 (b, h, w, 3), label uint8 (b, h, w), weight float32 (b,) with 0 for
        padding rows, record int32 (b,). Every host must yield the same number of batches with the same shapes.
    worst: number of worst images to keep; all others are dropped after their batch.
    sharding: of images (b, h, w, 3) over the devices of all hosts, None = one device. The height is split only if it is
        divisible.
    observe: called on every host for each image, with its record, prediction uint8 (h, w) and label uint8 (h, w).
    progress: called after each batch with the number of images counted so far.
    """
    spread, score, pick_row, maps = _programs(num_classes, ignore_label, sharding)
    matrix = np.zeros((num_classes, num_classes), np.int64)
    images = 0
    heap: list[tuple[float, int, ImageScore]] = []  # on top: the highest mIoU of the worst images

    def start(batch):
        batch = {name: batch[name] for name in ("image", "label", "weight", "record")}
        batch = jax.device_put(batch) if sharding is None else parallel.shard_batch(batch, sharding.mesh)
        if sharding is not None and _divides(sharding, batch["image"].shape):
            batch["image"] = spread(batch["image"])
        batch["prediction"] = _class_ids(predict_fn(batch["image"]))
        return batch, score(batch["prediction"], batch["label"], batch["weight"], batch["record"])

    def finish(batch, counted):
        nonlocal images
        matrices, weight, record = parallel.fetch_replicated(counted) if sharding else jax.device_get(counted)
        if observe:
            predictions, labels = map(_on_host, maps(batch["prediction"], batch["label"]))
        for row in np.flatnonzero(weight > 0):  # the numbers are the same on all hosts, and so are the branches
            images += 1
            matrix[:] += matrices[row]
            if observe:
                observe(int(record[row]), predictions[row], labels[row])
            if worst and matrices[row].any():
                scores = metrics.iou_scores(matrices[row].astype(np.int64))
                rank = (-scores["miou"], -int(record[row]))
                if len(heap) < worst or rank > heap[0][:2]:
                    image, label, prediction = (
                        _on_host(pick_row(batch[name], row)) for name in ("image", "label", "prediction")
                    )
                    found = ImageScore(
                        int(record[row]),
                        float(scores["miou"]),
                        float(scores["pixel_accuracy"]),
                        image,
                        label,
                        prediction,
                    )
                    (heapq.heappush if len(heap) < worst else heapq.heapreplace)(heap, (*rank, found))
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
    ordered = tuple(entry[2] for entry in sorted(heap, key=lambda entry: entry[:2], reverse=True))
    return Evaluation(matrix, images, time.perf_counter() - begin, ordered)


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


def _count_per_image(prediction, label, weight, record, *, num_classes, ignore_label):
    """Returns the confusion matrix of each row, int32 (b, k, k), with weights and records, which every host needs."""
    count = functools.partial(metrics.confusion_matrix, num_classes=num_classes, ignore_label=ignore_label)
    return jax.vmap(count)(prediction, label), weight, record


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
