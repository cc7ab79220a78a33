"""Scores beside the matrix: the sums of single images, few of them in memory however many there are."""

import gc
import os
import weakref

import numpy as np
import pytest

from segjax import metrics
from segjax.evaluation import ExtraScores, describe_scores


def image(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 21, (4, 6)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    prediction = np.where(rng.random(label.shape) < 0.8, label, 3).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = 255
    return prediction, label


def test_images_add_up_and_do_not_stay():
    names = [f"class {i}" for i in range(21)]
    extra, maps, most = ExtraScores(names, rule="voc2012", boundary=True), [], 0
    for seed in range(60):
        prediction, label = image(seed)
        maps.append(weakref.ref(label))
        extra(seed, prediction, label)
        most = max(most, sum(map_() is not None for map_ in maps))
    del prediction, label
    report = extra.report()
    gc.collect()
    assert most <= 2 * (os.cpu_count() or 1) + 2 and not any(map_() is not None for map_ in maps)
    outlines = [metrics.boundary_sums(*image(seed), num_classes=21) for seed in range(60)]
    f = sum(o.f for o in outlines) / sum(o.images for o in outlines)
    assert report["boundary_f"]["mean"] == pytest.approx(f.mean(), abs=1e-8)
    matrices = sum(metrics.trimap_matrices(*image(seed), num_classes=21) for seed in range(60))
    assert report["trimap_miou"]["3"] == pytest.approx(metrics.trimap_scores(matrices)[1], abs=1e-8)
    whole = np.zeros((21, 21), np.int64)
    for prediction, label in map(image, range(60)):
        valid = label != 255
        np.add.at(whole, (label[valid], prediction[valid]), 1)
    inside = metrics.iou_scores(whole - matrices[1])["miou"]
    assert report["inside_miou"]["3"] == pytest.approx(inside, abs=1e-8)
    assert report["voc2012"]["iou"]["class 3"] < report["voc2012"]["miou"]
    assert describe_scores(report["voc2012"])[0] == f"miou {100 * report['voc2012']['miou']:.2f}"
