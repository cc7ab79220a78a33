"""What no network is needed for: the mIoU of a constant, of the most frequent class per pixel, and of linear colour.

    python -m benchmarks.baselines --dataset=synthetic_street --train=train --test=validation

A trained network that is not far above these has learned nothing.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from segjax.data import IGNORE_LABEL, Source, open_source
from segjax.metrics import iou_scores


def pixels(source: Source, every: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random labelled pixels: colours (n, 4) in 0..1 with a constant 1, classes (n,)."""
    colours, classes = [], []
    for i in range(len(source)):
        record = source[i]
        chosen = rng.random(record.label.shape) < 1 / every
        chosen &= record.label != IGNORE_LABEL
        colours.append(record.image[chosen] / 255)
        classes.append(record.label[chosen])
    colours = np.concatenate(colours)
    return np.column_stack([colours, np.ones(len(colours))]), np.concatenate(classes)


def frequency(source: Source, size: tuple[int, int]) -> np.ndarray:
    """How often each class is at each pixel, (h, w, k)."""
    counts = np.zeros((*size, source.num_classes))
    for i in range(len(source)):
        label = cv2.resize(source[i].label, size[::-1], interpolation=cv2.INTER_NEAREST)
        counts += label[..., None] == np.arange(source.num_classes)
    return counts


def matrix(source: Source, predict) -> np.ndarray:
    """Confusion matrix of predict(image (h, w, 3)) -> (h, w) over a source."""
    k = source.num_classes
    total = np.zeros(k * k, np.int64)
    for i in range(len(source)):
        record = source[i]
        valid = record.label != IGNORE_LABEL
        cells = record.label[valid].astype(np.int64) * k + predict(record.image)[valid]
        total += np.bincount(cells, minlength=k * k)
    return total.reshape(k, k)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="synthetic_street")
    parser.add_argument("--train", default="train")
    parser.add_argument("--test", default="validation")
    parser.add_argument("--every", type=int, default=20, help="one of so many pixels is fitted")
    arguments = parser.parse_args()
    train, test = (open_source(arguments.dataset, split) for split in (arguments.train, arguments.test))

    colours, classes = pixels(train, arguments.every, np.random.default_rng(0))
    onehot = classes[:, None] == np.arange(train.num_classes)
    linear = np.linalg.lstsq(colours, onehot.astype(np.float64), rcond=None)[0]
    counts = frequency(train, tuple(int(n) for n in test.sizes[0]))
    constant = int(counts.sum((0, 1)).argmax())

    def by_colour(image):
        return (np.concatenate([image / 255, np.ones((*image.shape[:2], 1))], -1) @ linear).argmax(-1)

    def by_place(image):
        return cv2.resize(counts.argmax(-1).astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)

    predictors = {
        f"constant ({train.class_names[constant]})": lambda image: np.full(image.shape[:2], constant),
        "linear colour classifier": by_colour,
        "most frequent class per pixel": by_place,
    }
    print(f"{arguments.dataset} {arguments.test}, {len(test)} images, fitted on {arguments.train}")
    for name, predict in predictors.items():
        scores = iou_scores(matrix(test, predict))
        print(f"{name:32s} mIoU {100 * scores['miou']:5.1f}   pixel accuracy {100 * scores['pixel_accuracy']:5.1f}")


if __name__ == "__main__":
    main()
