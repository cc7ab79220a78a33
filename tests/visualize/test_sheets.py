"""Sheets: every tile at its place, and every colour in the legend."""

import numpy as np

from segjax import visualize


def picture(h=20, w=30, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


def test_legend_shows_every_colour_in_any_width():
    palette = np.array([(i * 7, 255 - i * 5, i * 11 % 256) for i in range(19)], np.uint8)
    names = [f"class number {i}" for i in range(19)]
    for width in (140, 500, 3000):
        out = visualize.legend(names, palette, width=width)
        assert out.shape[1] == width
        seen = {tuple(color) for color in out.reshape(-1, 3)}
        assert all(tuple(color) in seen for color in palette)


def test_sheet_places_tiles_in_a_grid():
    rows = [[np.full((50, 100, 3), 10 * (3 * i + j), np.uint8) for j in range(3)] for i in range(2)]
    out = visualize.sheet(rows, captions=["a", "b"], titles=["x", "y", "z"], heading="h", tile_width=60)
    assert out.shape[1] == visualize.sheet_width(3, 60) and out.dtype == np.uint8
    for i in range(2):
        for j in range(3):
            where = np.argwhere((out == 10 * (3 * i + j)).all(-1)) if i + j else None
            if where is not None:
                (y0, x0), (y1, x1) = where.min(0), where.max(0)
                assert x0 == visualize.GAP + j * (60 + visualize.GAP) and x1 - x0 == 59 and y1 - y0 == 29


def test_captions_share_the_columns():
    rows = [[picture(), picture()]]
    one, two = (visualize.sheet(rows, captions=[text], tile_width=64) for text in ("left", ("left", "left")))
    half = visualize.GAP + (one.shape[1] - visualize.GAP) // 2
    line = slice(visualize.GAP, visualize.GAP + 18)
    np.testing.assert_array_equal(one[:, :half], two[:, :half])
    assert (one[line, half:] == 255).all() and not (two[line, half:] == 255).all()


def test_sheet_takes_tiles_of_other_sizes_and_empty_places():
    out = visualize.sheet([[picture(40, 30), None], [picture(10, 90), picture(33, 33)]], tile_width=64)
    assert out.shape[1] == visualize.sheet_width(2, 64)


def test_a_labelled_sheet_ends_with_its_legend():
    palette = np.array([(128, 64, 128), (70, 130, 180)], np.uint8)
    rows = [[picture(), picture(), picture()]]
    width = visualize.sheet_width(3, 64) - 2 * visualize.GAP
    foot = visualize.legend(("road", "sky"), palette, width=width)
    found = visualize.labelled_sheet(rows, ("road", "sky"), palette, titles=("a", "b", "c"), tile_width=64)
    np.testing.assert_array_equal(found, visualize.sheet(rows, titles=("a", "b", "c"), foot=foot, tile_width=64))
