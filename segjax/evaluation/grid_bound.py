"""What a coarse grid costs: true labels averaged over its cells and enlarged, scored as predictions are.

No network whose logits lie on the grid can be expected to be much better.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import metrics
from segjax.ops import resize_argmax
from segjax.typing import Array


@partial(jax.jit, static_argnames=("num_classes", "cell"))
def labels_through_grid(labels: Array, num_classes: int, cell: int) -> Array:
    """Returns the class ids (b, h, w) of labels whose shares of classes are averaged over cells, and enlarged.

    labels: ids (b, h, w); others than 0 .. num_classes - 1 have no share.
    cell: pixels of its side; those of the last row and column may be narrower.
    """
    h, w = labels.shape[1:]
    rows, columns = -(-h // cell), -(-w // cell)
    rest = (0, 0), (0, rows * cell - h), (0, columns * cell - w)
    blocks = jnp.pad(labels.astype(jnp.int32), rest, constant_values=num_classes)
    blocks = blocks.reshape(-1, rows, cell, columns, cell)  # b y cell x cell
    votes = jnp.stack([(blocks == number).sum((2, 4)) for number in range(num_classes)], -1).astype(jnp.float32)
    shares = votes / jnp.maximum(votes.sum(-1, keepdims=True), 1)  # b y x k
    return resize_argmax(shares, (rows * cell, columns * cell), align_corners=False)[:, :h, :w]


def grid_bound(labels: Iterable[np.ndarray], num_classes: int, cell: int) -> dict[str, Any]:
    """Returns {"miou", "iou": of each class} of labels through a grid, in 0..1, nan for a class that does not occur.

    labels: ids (h, w) of each image.
    cell: pixels per cell.
    """
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for label in labels:
        ids = labels_through_grid(label[None], num_classes, cell)
        matrix += np.asarray(metrics.confusion_matrix(ids, label[None], num_classes), np.int64)
    scores = metrics.iou_scores(matrix)
    return {"miou": float(scores["miou"]), "iou": [float(x) for x in scores["iou"]]}
