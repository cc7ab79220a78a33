import numpy as np
import pytest

from segjax.data.scene_cuts import flow_residual, histogram_distance


def picture(seed, size=(60, 80)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size[0] // 10, size[1] // 10, 3), dtype=np.uint8)
    return coarse.repeat(10, 0).repeat(10, 1)


def test_histogram_distance():
    a = picture(0)
    assert histogram_distance(a, a) == 0
    assert histogram_distance(a, np.roll(a, 7, 1)) == 0  # motion keeps colours
    black, white = np.zeros_like(a), np.full_like(a, 255)
    assert histogram_distance(black, white) == 1
    half = np.where(np.arange(80)[:, None] < 40, black, white).astype(np.uint8)
    assert histogram_distance(black, half) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [(60, 80), (360, 480)])
def test_flow_residual_is_small_along_the_motion_and_large_across_a_cut(size):
    a = picture(0, size)
    moved = np.roll(a, 6, 1)
    flow = np.full((*size, 2), (6, 0), np.float32)
    assert flow_residual(a, moved, flow) < 2
    assert flow_residual(a, moved, np.zeros_like(flow)) > 3
    assert flow_residual(a, picture(1, size), flow) > 40


def test_nothing_in_view():
    a = picture(0)
    assert flow_residual(a, a, np.full((60, 80, 2), 1000, np.float32)) == 255
