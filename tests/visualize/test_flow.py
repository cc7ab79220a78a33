"""Colours of optical flow."""

import numpy as np

from segjax import visualize


def test_flow_colours():
    """Middlebury: right is red, left is cyan, up is blue-violet, down is yellow; no motion is white, nan is black."""
    flow = np.array([[(1, 0), (-1, 0), (0, -1), (0, 1), (0, 0), (np.nan, 0)]], np.float32)
    right, left, up, down, still, unknown = visualize.flow_to_color(flow)[0].astype(int)
    assert right[0] == 255 and right[1:].max() < 30
    assert left[0] < 30 and left[2] > 220
    assert up[2] == 255 and up[1] < 30
    assert down[0] == 255 and down[1] > 200 and down[2] < 30
    assert (still == 255).all() and (unknown == 0).all()


def test_flow_is_paler_when_slower_and_darker_past_the_limit():
    flow = np.array([[(0.2, 0), (1, 0), (3, 0)]], np.float32)
    slow, full, over = visualize.flow_to_color(flow, max_motion=1.0)[0].astype(int)
    assert slow[1] > full[1] and over[0] < full[0]


def test_the_wheel_explains_the_colours():
    picture = visualize.wheel_legend(["right is this", "and no motion white"], size=64)
    assert picture.shape[0] == 64 and picture.shape[1] > 140
    directions = {(32, 60): (1, 0), (32, 3): (-1, 0), (60, 32): (0, 1), (3, 32): (0, -1)}
    for (y, x), vector in directions.items():
        color = visualize.flow_to_color(np.float32([[vector]]), max_motion=1.1)[0, 0].astype(int)
        assert np.abs(picture[y, x] - color).max() < 40
    assert (picture[31:33, 31:33] > 240).all() and (picture[0, 0] == 255).all() and (picture[:, 76:] < 100).any()
