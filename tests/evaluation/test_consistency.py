"""Temporal consistency, against loops in numpy; the flow baseline of OpenCV."""

from functools import partial

import cv2
import jax
import numpy as np

from segjax import augment, models, ops
from segjax.evaluation.consistency import Agreement, agreement_of_snippets
from segjax.models.dis_warp import DisWarp
from segjax.models.video_segmenter import VideoSegmenter, example_frames
from tests.tiny_network import Tiny

K, B, T, SIZE = 5, 3, 4, (24, 32)


def case():
    rng = np.random.default_rng(0)
    label = rng.integers(0, K, (B, *SIZE)).astype(np.uint8)
    label[:, :2] = 255
    return dict(
        image=rng.integers(0, 256, (B, T, *SIZE, 3), np.uint8),
        flow=rng.normal(0, 3, (B, *SIZE, 2)).astype(np.float32),
        in_view=rng.random((B, *SIZE)) < 0.8,
        label=label,
        label_before=rng.integers(0, K, (B, *SIZE)).astype(np.uint8),
        weight=np.float32([1, 0, 1]),
    )


def led(labels, flow):
    """Where the flow leads to in labels (h, w), nearest pixel, the border repeated."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    x, y = np.floor(x + flow[..., 0] + 0.5).astype(int), np.floor(y + flow[..., 1] + 0.5).astype(int)
    return labels[np.clip(y, 0, SIZE[0] - 1), np.clip(x, 0, SIZE[1] - 1)]


def test_shares_of_a_network_and_of_the_truth():
    """Labels of a keyframe stay where they are in `copy`: those of frame t at distance d are those of frame t - d."""
    module = VideoSegmenter(Tiny(K), models.create_propagation("copy", K))
    variables = module.init(jax.random.key(0), *example_frames(module))
    batch = case()
    found = agreement_of_snippets(module, variables, [batch, batch], normalisation="imagenet")

    mean, std = augment.normalisation("imagenet")
    images = augment.normalise(batch["image"].reshape(-1, *SIZE, 3), mean=mean, std=std)
    states = module.apply(variables, images, method="start")
    ids = np.argmax(ops.resize(states, SIZE, align_corners=True), -1).reshape(B, T, *SIZE)
    carried, renewed, in_view, truth, labelled = np.zeros(T - 1), np.zeros(T - 1), 0, 0, 0
    for row in (0, 2):
        view = batch["in_view"][row]
        in_view += view.sum()
        for distance in range(T - 1):
            frame = T - 2 - distance
            before = led(ids[row, frame], batch["flow"][row])
            carried[distance] += ((ids[row, frame] == before) & view).sum()
            renewed[distance] += ((ids[row, T - 1] == before) & view).sum()
        before = led(batch["label_before"][row], batch["flow"][row])
        both = view & (batch["label"][row] != 255) & (before != 255)
        truth, labelled = truth + ((batch["label"][row] == before) & both).sum(), labelled + both.sum()
    np.testing.assert_array_equal(found.carried, 2 * carried)
    np.testing.assert_array_equal(found.renewed, 2 * renewed)
    assert (found.in_view, found.truth, found.truth_in_view) == (2 * in_view, 2 * truth, 2 * labelled)
    expected = (renewed[2] + carried[0] + carried[1]) / (3 * in_view)
    assert abs(found.share(3) - expected) < 1e-12 and found.of_truth() == truth / labelled
    assert np.isnan(Agreement(carried, renewed, 0, 0, 0).share(1))


def test_logits_move_with_the_flow_of_opencv():
    """A texture that moves 8 pixels to the right: the labels of each cell come from the cell on the left."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 256, (8, 20, 3)).astype(np.float32), (160, 64))
    before, image = texture[None, :, 8:136], texture[None, :, :128]
    state = rng.normal(size=(1, 8, 16, K)).astype(np.float32)
    moved = jax.jit(partial(DisWarp(K).apply, {}))(state, image, before)
    inner = np.s_[:, 2:-2, 3:-3]
    assert np.abs(moved[inner] - state[:, 2:-2, 2:-4]).mean() < 0.25 * np.abs(moved[inner] - state[inner]).mean()
    pairs = jax.jit(partial(DisWarp(K).apply, {}))(
        *(np.concatenate([x, x, x[:, ::-1]]) for x in (state, image, before))
    )
    np.testing.assert_allclose(pairs[0], moved[0], atol=1e-5)
    np.testing.assert_array_equal(pairs[0], pairs[1])  # one flow for equal pairs
    assert np.abs(pairs[2] - pairs[0]).max() > 0.1
