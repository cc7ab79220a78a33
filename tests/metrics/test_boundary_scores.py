"""Outlines against definitions written out pixel by pixel."""

import numpy as np
import pytest
import scipy.ndimage

from segjax.metrics.boundary import boundary_sums, trimap_matrices, trimap_scores

K = 4


def maps(seed, size=(24, 31)):
    """Truth of blobs with some void, and a prediction that differs from it at outlines and elsewhere."""
    rng = np.random.default_rng(seed)
    noise = scipy.ndimage.gaussian_filter(rng.normal(size=(K, *size)), (0, 3, 3))
    truth = noise.argmax(0).astype(np.uint8)
    guess = scipy.ndimage.gaussian_filter(noise + rng.normal(scale=0.1, size=noise.shape), (0, 1, 1)).argmax(0)
    truth[rng.random(size) < 0.02] = 255
    truth[:4, :9] = 255
    return guess.astype(np.uint8), truth


def outline(mask, valid):
    found = np.zeros_like(mask)
    h, w = mask.shape
    for y in range(h):
        for x in range(w):
            places = [(min(y + dy, h - 1), min(x + dx, w - 1)) for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1))]
            found[y, x] = len({bool(mask[p]) for p in places}) == 2 and all(valid[p] for p in places)
    return found


def slow_f(guess, truth, radius):
    """Csurka et al. with the distance of every pair of outline pixels."""
    scores = np.full(K, np.nan)
    for c in range(K):
        a, b = (np.argwhere(outline(m == c, truth != 255)) for m in (guess, truth))
        if not len(a) and not len(b):
            continue
        near = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)) <= radius
        p = near.any(1).mean() if len(b) and len(a) else 0
        r = near.any(0).mean() if len(b) and len(a) else 0
        scores[c] = 2 * p * r / (p + r) if p + r else 0
    return scores


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance, radius", [(0.0075, 1), (0.05, 2), (3, 3), (5, 5)])
def test_f_scores_are_those_of_the_definition(seed, tolerance, radius):
    guess, truth = maps(seed)
    sums = boundary_sums(guess, truth, num_classes=K, tolerance=tolerance)
    np.testing.assert_allclose(sums.scores(), slow_f(guess, truth, radius), atol=1e-12)


def test_f_scores_of_images_are_averaged_by_class():
    pairs = [maps(seed) for seed in range(3)]
    pairs.append((np.zeros((6, 6), np.uint8), np.zeros((6, 6), np.uint8)))  # without outline: counts for nobody
    total = sum((boundary_sums(*p, num_classes=K + 1) for p in pairs[1:]), boundary_sums(*pairs[0], num_classes=K + 1))
    want = np.nanmean([slow_f(*p, 1) for p in pairs[:3]], 0)
    np.testing.assert_allclose(total.scores(), [*want, np.nan], atol=1e-12)


def test_f_score_by_hand():
    truth = np.zeros((10, 20), np.uint8)
    truth[:, 10:] = 1
    moved = np.roll(truth, 2, 1)
    moved[:, :2] = 0
    assert boundary_sums(truth, truth, num_classes=2).scores().tolist() == [1, 1]
    assert boundary_sums(moved, truth, num_classes=2, tolerance=1).scores().tolist() == [0, 0]
    assert boundary_sums(moved, truth, num_classes=2, tolerance=2).scores().tolist() == [1, 1]
    assert boundary_sums(np.zeros_like(truth), truth, num_classes=2, tolerance=2).scores().tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_trimaps_are_those_of_the_definition(seed):
    guess, truth = maps(seed)
    padded = np.pad(truth.astype(int), 1, mode="edge")
    shifted = (padded[1 + dy : 25 + dy, 1 + dx : 32 + dx] for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)))
    edge = np.argwhere(np.any([truth != other for other in shifted], 0))
    distance = np.hypot(*(np.indices(truth.shape)[:, :, :, None] - edge.T[:, None, None])).min(-1)
    bands = (1, 2, 4, 9)
    matrices = trimap_matrices(guess, truth, num_classes=K, bands=bands)
    for matrix, band in zip(matrices, bands):
        want = np.zeros((K, K), np.int64)
        chosen = (distance <= band - 1) & (truth != 255)
        np.add.at(want, (truth[chosen], guess[chosen]), 1)
        np.testing.assert_array_equal(matrix, want)
    union = matrices.sum(1) + matrices.sum(2) - np.einsum("nii->ni", matrices)
    np.testing.assert_allclose(trimap_scores(matrices), (np.einsum("nii->ni", matrices) / union).mean(1))


def test_an_image_of_one_label_has_no_band():
    same = np.full((5, 6), 2, np.uint8)
    assert not trimap_matrices(same, same, num_classes=K).any()
    assert np.isnan(trimap_scores(trimap_matrices(same, same, num_classes=K))).all()


def test_sizes_must_agree_here_too():
    for function in (boundary_sums, trimap_matrices):
        with pytest.raises(ValueError, match="the prediction is"):
            function(np.zeros((2, 2), int), np.zeros((2, 3), int), num_classes=2)
