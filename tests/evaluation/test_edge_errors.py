"""Edges and errors of warped labels, against numpy."""

import jax
import numpy as np
import pytest

from segjax import augment, models
from segjax.evaluation.edge_errors import edge_errors, shares, warped_maps
from segjax.models.video_segmenter import VideoSegmenter, example_frames
from segjax.ops import resize
from tests.tiny_network import Tiny

K = 5


@pytest.fixture(scope="module")
def network():
    module = VideoSegmenter(Tiny(K), models.create_propagation("gsvnet", K))
    variables = jax.jit(module.init)(jax.random.key(0), *example_frames(module))
    rng = np.random.default_rng(0)  # a keyframe network that finds several classes
    variables["params"]["keyframe"] = jax.tree.map(lambda x: rng.normal(size=x.shape), variables["params"]["keyframe"])
    return module, variables


def batch(seed=0, b=2, size=(36, 52)):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, K, (b, *size)).astype(np.uint8)
    label[:, :3] = 255
    return dict(image=rng.integers(0, 256, (b, 3, *size, 3), np.uint8), label=label, weight=np.ones(b, np.float32))


def test_maps_are_those_of_the_warped_logits(network):
    module, variables = network
    one = batch()
    maps = jax.device_get(warped_maps(module, variables, one["image"], one["label"], normalisation="imagenet"))
    mean, std = augment.normalisation("imagenet")
    before, now = (augment.normalise(one["image"][:, n], mean=mean, std=std) for n in (1, 2))
    state = module.apply(variables, before, method="start")
    warp = VideoSegmenter(module.keyframe, models.create_propagation("warp", K))
    flow = {name: tree["propagation"] for name, tree in variables.items()}
    kept = {name: {"propagation": {"ofnet": tree["ofnet"]}} for name, tree in flow.items()}
    moved = np.asarray(warp.apply(kept, state, now, before, method="step"))  # what this baseline returns
    ids = np.argmax(resize(moved, (36, 52), align_corners=True), -1)
    np.testing.assert_array_equal(maps["ids"], ids)
    np.testing.assert_array_equal(maps["wrong"], (ids != one["label"]) & (one["label"] < K))
    cells = np.pad(moved.argmax(-1), ((0, 0), (1, 1), (1, 1)))  # 0 outside
    around = sum(cells[:, y : y + 5, x : x + 7] for y in range(3) for x in range(3))
    edge = (around != 9 * cells[:, 1:-1, 1:-1]).repeat(8, 1).repeat(8, 2)[:, :36, :52]
    np.testing.assert_array_equal(maps["edge"], edge)


def test_numbers_are_those_of_the_maps(network):
    module, variables = network
    batches = [batch(0), batch(1)]
    batches[1]["weight"][1] = 0  # a row that fills the batch
    found = edge_errors(module, variables, batches, normalisation="imagenet")
    kept = []
    for one in batches:
        maps = warped_maps(module, variables, one["image"], one["label"], normalisation="imagenet")
        rows = one["weight"] > 0
        kept.append([np.asarray(maps[name])[rows][np.asarray(maps["labelled"])[rows]] for name in ("edge", "wrong")])
    edge, wrong = (np.concatenate(parts) for parts in zip(*kept))
    expected = dict(share=edge.mean(), wrong_at_edges=wrong[edge].mean(), wrong_elsewhere=wrong[~edge].mean())
    expected |= dict(errors_at_edges=edge[wrong].mean(), correlation=np.corrcoef(edge, wrong)[0, 1])
    assert found == pytest.approx(expected) and 0.1 < found["share"] < 0.9


def test_nothing_to_count_is_no_number():
    assert all(np.isnan(x) for x in shares(0, 0, 0, 0).values())
    assert np.isnan(shares(0, 0, 4, 10)["wrong_at_edges"]) and np.isnan(shares(0, 0, 4, 10)["correlation"])
