"""Scores of labelled video, against frame-by-frame calls and confusion matrices in numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import augment, metrics, models, ops, parallel
from segjax.data import Snippets
from segjax.data.video import FrameIndex
from segjax.evaluation.scorer import Scorer
from segjax.evaluation.snippets import by_distance, interval_scores, snippet_class_ids
from segjax.models.video_segmenter import VideoSegmenter, example_frames
from tests.tiny_network import Tiny
from tests.video_tools import Table, random_records

K, SIZE = 5, (40, 56)


class Video:
    num_classes = K

    def __init__(self):
        self.index = Table((6, 4), size=SIZE, every=2, first=1)
        self.records = random_records(self.index)

    def __getitem__(self, number):
        return self.records[number]


def network(name, scale=1.0, **options):
    module = VideoSegmenter(Tiny(K), models.create_propagation(name, K, **options), scale)
    return module, jax.jit(module.init)(jax.random.key(0), *example_frames(module))


@pytest.mark.parametrize("name, scale", [("gsvnet", 0.75), ("copy", 1.0), ("warp", 1.0)])
def test_matrices_are_those_of_single_calls(name, scale):
    module, variables = network(name, scale)
    snippets = Snippets(FrameIndex(Video()), 2)
    predict = snippet_class_ids(module, "imagenet")
    mesh = parallel.make_mesh({"data": 2}, jax.devices()[:2])
    scorer = Scorer(predict, snippets, mesh=mesh, batch_size=2)
    evaluation = scorer(jax.device_put(variables, parallel.replicated(mesh)))
    found = by_distance(evaluation)
    assert evaluation.images == 3 and len(found) == 3
    run = jax.jit(partial(enlarged_logits, module))
    for distance, matrix in enumerate(found):
        expected = np.zeros((K, K), int)
        for number in range(3):
            frames = snippets.frames(number, 3)
            ids = np.argmax(run(variables, np.stack([f.image for f in frames])[2 - distance :]), -1)[0]
            valid = frames[-1].label != 255
            np.add.at(expected, (frames[-1].label[valid], ids[valid]), 1)
        assert np.abs(matrix - expected).sum() <= 0.002 * expected.sum()  # of ties that batches round differently
    average, last = interval_scores(found, 3), metrics.iou_scores(found[2])["miou"]
    assert average == {"average": metrics.iou_scores(sum(found))["miou"], "minimum": last}
    assert interval_scores(found, 1)["average"] == interval_scores(found, 1)["minimum"]


def enlarged_logits(module, variables, frames):
    mean, std = augment.normalisation("imagenet")
    images = augment.normalise(jnp.asarray(frames)[None], mean=mean, std=std)
    return ops.resize(module.apply(variables, images), SIZE, align_corners=True)


def test_one_frame_needs_no_propagation():
    module, variables = network("gsvnet")
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, *SIZE, 3), np.uint8)
    found = snippet_class_ids(module, "imagenet")(variables, frames)
    assert set(found) == {"logits"} and found["logits"].shape == (2, *SIZE)
