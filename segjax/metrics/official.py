"""The scores that benchmark servers publish, computed image by image in constant memory.

    rule        classes  mean over              also
    cityscapes  19       classes that occur     categories, iIoU of classes and categories (Cordts et al., CVPR 2016)
    kitti       19       same                   same
    voc2012     21       same                   background is a class; 255, the outlines of objects, does not count
    bdd100k     19       classes of the truth   (as bdd100k.eval.run does)

KITTI's metrics conform with Cityscapes by its own statement; here, its instances have the sizes of Cityscapes too. A
class "occurs" if it is in the truth or the prediction of the split. VOC's own program (VOCevalseg.m) divides 0 by 0 for
a class that does not occur, and its mean is then not a number. In VOC's splits all 21 classes occur; for a part of a
split, such a class is excluded here. A predicted label that is no class is wrong for the true class of its pixel, and
for no other. Ignored pixels of the truth (255) never count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.errors import UserError, did_you_mean
from segjax.metrics.instances import (
    CITYSCAPES_CATEGORIES,
    CITYSCAPES_CATEGORY_OF,
    CITYSCAPES_INSTANCE_SIZES,
    InstanceSums,
    instance_scores,
    instance_sums,
)
from segjax.metrics.scores import category_matrix, iou_scores


@dataclasses.dataclass(frozen=True)
class Rule:
    """Rule by which a server scores.

    num_classes: k.
    categories: of each class, () = none.
    category_names: of each category.
    extra: categories of the labels k, k + 1, ..., which are predicted but not scored, and count as right for the
        instances of their category (Cityscapes' caravan and trailer).
    sizes: train id -> mean pixels of an instance, {} = no iIoU.
    truth_only: whether the mean excludes classes that are predicted but not in the truth.
    """

    num_classes: int
    categories: tuple[int, ...] = ()
    category_names: tuple[str, ...] = ()
    extra: tuple[int, ...] = ()
    sizes: Mapping[int, float] = dataclasses.field(default_factory=dict)
    truth_only: bool = False

    @property
    def columns(self) -> int:
        """Number of columns of the matrix: classes, extra labels, and one for all other labels."""
        return self.num_classes + len(self.extra) + 1


_CITYSCAPES = Rule(19, CITYSCAPES_CATEGORY_OF, CITYSCAPES_CATEGORIES, (6, 6), CITYSCAPES_INSTANCE_SIZES)
RULES: dict[str, Rule] = {
    "cityscapes": _CITYSCAPES,
    "kitti": _CITYSCAPES,
    "voc2012": Rule(21),
    "bdd100k": Rule(19, truth_only=True),
}


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts of pixels, added over images.

    matrix: int64 (k, columns), row = truth, column = prediction.
    images: number of images.
    instances: sums for iIoU, None without instance maps.
    """

    matrix: np.ndarray
    images: int = 0
    instances: InstanceSums | None = None

    def __add__(self, other: Tally) -> Tally:
        both = self.instances is not None and other.instances is not None
        instances = self.instances + other.instances if both else self.instances or other.instances
        return Tally(self.matrix + other.matrix, self.images + other.images, instances)


def find_rule(name: str) -> Rule:
    """Returns the rule of a benchmark. Raises UserError with the nearest name for an unknown one."""
    if name not in RULES:
        raise UserError(f"there is no rule {name!r} of a benchmark.{did_you_mean(name, RULES)}")
    return RULES[name]


def empty_tally(rule: Rule) -> Tally:
    """Returns a tally of no image."""
    return Tally(np.zeros((rule.num_classes, rule.columns), np.int64))


def tally(
    rule: Rule,
    prediction: np.ndarray,
    labels: np.ndarray,
    *,
    instances: np.ndarray | None = None,
    train_id_of: Mapping[int, int] | None = None,
) -> Tally:
    """Returns the counts of one image.

    rule: see `find_rule`.
    prediction: (h, w) uint8, a class 0..k-1 or an extra label from k on; other labels are no class.
    labels: (h, w) uint8, a class 0..k-1; other labels are ignored.
    instances, train_id_of: for rules with instance sizes, see `instance_sums`.
    """
    if prediction.shape != labels.shape:
        raise ValueError(f"the prediction is {prediction.shape} and the truth is {labels.shape}")
    k, n = rule.num_classes, rule.columns
    counts = labels < k
    cells = labels[counts].astype(np.intp) * n + np.minimum(prediction[counts], n - 1)
    matrix = np.bincount(cells, minlength=k * n).reshape(k, n)
    sums = None
    if instances is not None and rule.sizes:
        sums = instance_sums(
            prediction,
            instances,
            train_id_of=train_id_of or {},
            sizes=rule.sizes,
            categories=rule.categories + rule.extra,
        )
    return Tally(matrix, 1, sums)


def official_scores(rule: Rule, counted: Tally) -> dict[str, Any]:
    """Returns scores in 0..1 by name, nan if there is nothing to score.

    Always: iou (k,), miou, pixel_accuracy. With categories: category_iou (c,), mean_category_iou. With instance maps:
    iiou (k,), mean_iiou, category_iiou (c,), mean_category_iiou.

    rule: see `find_rule`.
    counted: of all images.
    """
    k, n = rule.num_classes, rule.columns
    square = np.zeros((n, n), np.int64)
    square[:k] = counted.matrix
    iou = iou_scores(square)["iou"][:k]
    if rule.truth_only:
        iou = np.where(counted.matrix.sum(1) > 0, iou, np.nan)
    total = counted.matrix.sum()
    scores = {"iou": iou, "miou": _mean(iou)}
    scores["pixel_accuracy"] = float(np.trace(counted.matrix[:, :k]) / total) if total else float("nan")
    if rule.categories:
        c = len(rule.category_names)
        # for the IoU of categories an extra label is wrong, unlike for the instances of its category
        categories = (*rule.categories, *[c] * (n - k))
        scores["category_iou"] = iou_scores(category_matrix(square, categories))["iou"][:c]
        scores["mean_category_iou"] = _mean(scores["category_iou"])
    if counted.instances is not None:
        labels = rule.categories + rule.extra
        found = instance_scores(square, counted.instances, sizes=rule.sizes, categories=labels)
        scores["iiou"], scores["category_iiou"] = found["iiou"][:k], found["category_iiou"]
        scores["mean_iiou"] = _mean(scores["iiou"])
        scores["mean_category_iiou"] = _mean(scores["category_iiou"])
    return scores


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
