"""Instance-level IoU (iIoU) of Cityscapes: every instance has the same weight, whatever its number of pixels.

iIoU = iTP / (iTP + FP + iFN) (Cordts et al., CVPR 2016, section 4.1). The right and the missed pixels of an instance
have the weight (mean size of its class / its own size). Wrongly predicted pixels belong to no instance and count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segjax.metrics.scores import category_matrix

# train id -> mean pixels of an instance in the training set (published in the official scripts, cityscapesscripts)
CITYSCAPES_INSTANCE_SIZES = {
    11: 3462.4756337644,  # person
    12: 3930.4788056518,  # rider
    13: 12794.0202738185,  # car
    14: 27855.1264367816,  # truck
    15: 35732.1511111111,  # bus
    16: 67583.7075812274,  # train
    17: 6298.7200839748,  # motorcycle
    18: 4672.3249222261,  # bicycle
}
CITYSCAPES_CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
CITYSCAPES_CATEGORY_OF = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)  # of each of the 19 classes


@dataclass(frozen=True)
class InstanceSums:
    """Weighted pixels of instances by class, (k,) float64 each, added over images.

    right: pixels predicted as the instance's class.
    right_category: pixels predicted as any class of its category.
    total: all its pixels.
    """

    right: np.ndarray
    right_category: np.ndarray
    total: np.ndarray

    def __add__(self, other: InstanceSums) -> InstanceSums:
        return InstanceSums(
            self.right + other.right, self.right_category + other.right_category, self.total + other.total
        )


def instance_sums(
    prediction: np.ndarray,
    instances: np.ndarray,
    *,
    train_id_of: Mapping[int, int],
    sizes: Mapping[int, float],
    categories: Sequence[int],
) -> InstanceSums:
    """Returns the sums of one image.

    prediction: (h, w) int, train ids; 255, which is no class, is always wrong.
    instances: (h, w) int as published: raw id * 1000 + number for an instance, the raw id alone for stuff and groups.
    train_id_of: raw id -> train id, 255 for no class.
    sizes: train id -> mean pixels of an instance; classes without a size are not scored.
    categories: (k,), category of every class. Labels that are predicted but not scored (Cityscapes' caravan and
        trailer) may follow as further classes; they count as right for their category.
    """
    if prediction.shape != instances.shape:
        raise ValueError(f"the prediction is {prediction.shape} and the instances are {instances.shape}")
    k = len(categories)
    sums = np.zeros((3, k))
    category_of = np.full(256, -1)
    category_of[:k] = categories
    inside = instances > 1000
    numbers, member = np.unique(instances[inside], return_inverse=True)
    predicted = prediction[inside].astype(np.int64)
    classes = np.array([train_id_of.get(int(number) // 1000, 255) for number in numbers], np.int64)
    truth = classes[member]
    area = np.bincount(member, minlength=len(numbers))
    right = np.bincount(member, predicted == truth, minlength=len(numbers))
    right_category = np.bincount(member, category_of[predicted] == category_of[truth], minlength=len(numbers))
    for c, *pixels in zip(classes, right, right_category, area):
        if c in sizes:
            sums[:, c] += np.array(pixels) * (sizes[c] / pixels[-1])
    return InstanceSums(*sums)


def instance_scores(
    matrix: np.ndarray, sums: InstanceSums, *, sizes: Mapping[int, float], categories: Sequence[int]
) -> dict[str, np.ndarray]:
    """Returns the iIoU of classes and of categories: "iiou" (k,) and "category_iiou" (c,).

    It is nan for a class (or a category of classes) that has no instances by definition, or that occurs neither in
    truth nor in prediction.

    matrix: (k, k) or larger, pixels by true and predicted class of the same images; only (k, k) are used.
    sums: of all images.
    sizes, categories: see `instance_sums`.
    """
    matrix = np.asarray(matrix, np.float64)
    k = len(categories)
    wrong = matrix[:k, :k].sum(0) - np.diag(matrix)[:k]
    by_category = category_matrix(matrix[:k, :k], categories).astype(np.float64)
    wrong_category = by_category.sum(0) - np.diag(by_category)
    member = np.asarray(categories)[:, None] == np.arange(len(by_category))
    scored = np.isin(np.arange(k), list(sizes))
    return {
        "iiou": _iiou(sums.right, sums.total, wrong, scored),
        "category_iiou": _iiou(sums.right_category @ member, sums.total @ member, wrong_category, scored @ member),
    }


def _iiou(right: np.ndarray, total: np.ndarray, wrong: np.ndarray, scored: np.ndarray) -> np.ndarray:
    whole = total + wrong
    return np.divide(right, whole, out=np.full(len(right), np.nan), where=(whole > 0) & scored.astype(bool))
