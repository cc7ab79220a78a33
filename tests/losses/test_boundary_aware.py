"""The boundary-aware loss: published weights, values and gradients; distances against brute force and OpenCV."""

from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.losses import boundary_aware_cross_entropy, cross_entropy
from segjax.losses.boundary_aware import FAR, ONE, boundary_weights, distance_to_other_label
from segjax.ops import resize
from tests import loss_oracles as oracle

FIXTURE = Path(__file__).parents[1] / "fixtures" / "parity_boundary_weights.npz"  # labels and weights of both cases
CASES = {0: (2, 4, 8), 1: (16, 64, 128)}
WEIGHTS = (8, 4, 2, 1)


def brute_force(labels):
    """Length of the shortest path of steps 1, 1.4, 2.1969 to any pixel with another label; (h, w), inf without one."""
    h, w = labels.shape
    y, x = np.mgrid[:h, :w]
    result = np.full((h, w), np.inf)
    for i, j in np.ndindex(h, w):
        a, b = np.abs(y - i), np.abs(x - j)
        far, near = np.maximum(a, b), np.minimum(a, b)
        straight = far - 2 * near + 2.1969 * near
        knights = far - near
        length = np.where(far >= 2 * near, straight, 2.1969 * knights + 1.4 * (near - knights))
        others = labels != labels[i, j]
        if others.any():
            result[i, j] = length[others].min()
    return result


@pytest.mark.parametrize("case", CASES)
def test_weights_are_the_published_ones(case):
    stored = np.load(FIXTURE)
    labels, wanted = stored[f"labels{case}"], stored[f"weights{case}"]
    ours = boundary_weights(labels, distances=CASES[case], weights=WEIGHTS)
    np.testing.assert_array_equal(np.where(labels == 19, 0, ours), wanted)
    assert len(np.unique(wanted)) > 1


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_the_published_ones(parity, case):
    data = np.load(parity / "losses" / f"swiftnet_baf_{case}.npz")
    labels, logits = data["labels"], np.moveaxis(data["logits"], 1, -1)

    def loss(x):
        x = resize(x, labels.shape[1:])
        return boundary_aware_cross_entropy(x, labels, ignore_label=19, distances=CASES[case]).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(logits)
    np.testing.assert_allclose(value, data["loss"], rtol=1e-5)
    wanted = np.moveaxis(data["grad"], 1, -1)
    assert np.abs(gradient - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("seed, share", [(0, 0.02), (1, 0.3), (2, 0.004)])
def test_distances_are_those_of_the_shortest_paths(seed, share):
    """Also where the path would cross regions of other labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 3, (1, 19)), 16, 0)
    labels = np.where(rng.random(labels.shape) < share, rng.integers(0, 4, labels.shape), labels)
    ours = np.asarray(distance_to_other_label(np.stack([labels, labels.T[:16, :16].repeat(2, 1)[:, :19]]))) / ONE
    np.testing.assert_allclose(ours[0], brute_force(labels), atol=1e-3)
    np.testing.assert_allclose(ours[1], brute_force(labels.T[:16, :16].repeat(2, 1)[:, :19]), atol=1e-3)


def test_distances_are_those_of_opencv():
    labels = oracle.blocks(3, (1, 9, 12), classes=4)[0].repeat(7, 0).repeat(9, 1)
    ours = np.asarray(distance_to_other_label(labels)) / ONE
    for c in np.unique(labels):
        inside = labels == c
        theirs = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
        np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-3)
    assert ours.max() > 8


def test_one_label_everywhere_is_far_from_any_other():
    labels = np.zeros((2, 5, 7), np.int32)
    assert (np.asarray(distance_to_other_label(labels)) == FAR).all()
    assert (np.asarray(boundary_weights(labels, distances=(1, 2), weights=(3, 2, 0.5))) == 0.5).all()


def test_formula():
    labels, logits = oracle.blocks(0, (2, 8, 10)), oracle.noise(0, (2, 8, 10, 5))
    ours = boundary_aware_cross_entropy(logits, labels, distances=(1.2, 1.5), weights=(3, 0, 1), gamma=0.7)
    ids = np.where(labels == 255, 5, labels).astype(int)
    distance = np.stack([brute_force(one) for one in ids])
    weight = np.where(distance < 1.2, 3.0, np.where(distance < 1.5, 0.0, 1.0)) * (ids < 5)
    nll = -np.take_along_axis(oracle.log_softmax(logits), np.minimum(ids, 4)[..., None], -1)[..., 0]
    np.testing.assert_allclose(ours.value, (weight * np.exp(0.7 * (1 - np.exp(-nll))) * nll).sum(), rtol=1e-5)
    assert ours.count == (weight > 0).sum() < (ids < 5).sum()


def test_equal_weights_without_focus_are_cross_entropy():
    labels, logits = oracle.blocks(1), oracle.noise(1, (2, 8, 10, 5))
    options = dict(distances=(), weights=(1,), gamma=0.0)
    for function in (lambda x, y: boundary_aware_cross_entropy(x, y, **options), cross_entropy):
        np.testing.assert_allclose(function(logits, labels).mean(), cross_entropy(logits, labels).mean(), rtol=1e-6)


def test_nothing_valid_is_zero_with_zero_gradient():
    labels, logits = np.full((1, 4, 6), 255, np.uint8), oracle.noise(2, (1, 4, 6, 3))
    value, gradient = jax.value_and_grad(lambda x: boundary_aware_cross_entropy(x, labels).mean())(logits)
    assert value == 0 and not np.any(gradient)


@pytest.mark.parametrize(
    "distances, weights", [((64, 16), (1, 1, 1)), ((16,), (1,)), ((16, 16), (1, 1, 1)), ((), (-1,))]
)
def test_settings_that_do_not_fit_are_refused(distances, weights):
    labels, logits = oracle.blocks(0), oracle.noise(0, (2, 8, 10, 5))
    with pytest.raises(UserError, match="distances"):
        boundary_aware_cross_entropy(logits, labels, distances=distances, weights=weights)
