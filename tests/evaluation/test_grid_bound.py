"""True labels through a coarse grid, against numpy and Pillow's bilinear enlargement."""

import numpy as np
import pytest
from PIL import Image

from segjax.evaluation.grid_bound import grid_bound, labels_through_grid


def oracle(label, k, cell):
    h, w = label.shape
    rows, columns = -(-h // cell), -(-w // cell)
    shares = np.zeros((rows, columns, k), np.float32)
    for y in range(rows):
        for x in range(columns):
            votes = label[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell]
            counts = np.bincount(votes[votes < k], minlength=k)
            shares[y, x] = counts / max(counts.sum(), 1)
    size = (columns * cell, rows * cell)
    large = [np.asarray(Image.fromarray(shares[..., c]).resize(size, Image.BILINEAR)) for c in range(k)]
    return np.stack(large, -1)[:h, :w]


@pytest.mark.parametrize("size, cell", [((24, 32), 4), ((21, 30), 8), ((5, 9), 8), ((7, 6), 1)])
def test_it_equals_the_oracle(size, cell):
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 5, (size[0] // 3 + 1, size[1] // 3 + 1)), np.ones((3, 3)))[: size[0], : size[1]]
    label = label.astype(np.uint8)
    label[:2, :3] = 255
    ids, shares = np.asarray(labels_through_grid(label[None], 5, cell))[0], oracle(label, 5, cell)
    chosen = np.take_along_axis(shares, ids[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(chosen, shares.max(-1), atol=1e-6)  # equal shares may be told apart either way


def test_cells_of_a_pixel_cost_nothing_and_coarser_ones_more():
    label = np.kron(np.random.default_rng(1).integers(0, 3, (8, 8)), np.ones((6, 6))).astype(np.uint8)
    scores = [grid_bound([label, label.T], 3, cell)["miou"] for cell in (1, 4, 16)]
    assert scores[0] == 1 > scores[1] > scores[2]
    assert np.isnan(grid_bound([label * 0], 2, 4)["iou"][1])
