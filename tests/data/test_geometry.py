import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.geometry import cut, place, window_size
from segjax.errors import UserError

SIDE, CROP, SCALE = st.integers(1, 90), st.integers(2, 60), st.floats(0.25, 3.0)


def draw(seed, side, crop, scale, smallest, largest_side, centroid=None):
    scale = max(scale, smallest)
    window = window_size((crop, crop), (smallest, 3.0), np.array([[side, side], [largest_side, largest_side]]))[0]
    return (
        window,
        scale,
        place(np.random.default_rng(seed), side=side, crop=crop, scale=scale, window=window, centroid=centroid),
    )


@settings(max_examples=300)
@given(st.integers(0, 9), SIDE, CROP, SCALE, st.floats(0.25, 1.5), SIDE, st.booleans(), st.data())
def test_a_span_holds_the_crop(seed, side, crop, scale, smallest, largest_side, around, data):
    centroid = data.draw(st.integers(0, side - 1)) if around else None
    window, scale, span = draw(seed, side, crop, scale, smallest, largest_side, centroid)
    box = crop / scale
    assert span.high - span.low == pytest.approx(box)
    # the window lies in the image, as far as there is image
    assert span.start >= 0 and (span.start + window <= side or span.start == 0)
    first, last = span.start + span.low, span.start + span.high
    tight = 1e-4
    if box <= side:  # no padding, and every source pixel of the box is in the window
        assert first >= -tight and last <= side + tight
        assert span.low >= -tight and span.high <= window + tight
    else:  # the whole image is in the box, in its middle
        assert first <= tight and last >= side - tight
        assert abs(-first - (last - side)) <= 1 + tight
        assert span.start == 0 and window >= side
    if centroid is not None and box >= 1:
        assert first <= centroid + tight and centroid + 1 <= last + tight
    if centroid is not None:
        assert first - tight <= centroid + 0.5 <= last + tight


def test_scale_one_starts_at_whole_pixels():
    for seed in range(50):
        _, _, span = draw(seed, 37, 16, 1.0, 1.0, 37)
        assert span.low == int(span.low)
        _, _, padded = draw(seed, 11, 16, 1.0, 1.0, 11)
        assert padded.low == int(padded.low)


def test_every_place_is_drawn_as_often():
    starts = [sum(draw(seed, 20, 16, 1.0, 1.0, 20)[2][:2]) for seed in range(1000)]
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == [0, 1, 2, 3, 4] and counts.min() > 150


def test_around_a_centroid_every_place_that_shows_it_is_drawn():
    starts = {sum(draw(seed, 100, 8, 1.0, 1.0, 100, centroid=50)[2][:2]) for seed in range(300)}
    assert starts == set(range(43, 51))
    assert {sum(draw(seed, 100, 8, 1.0, 1.0, 100, centroid=99)[2][:2]) for seed in range(50)} == {92.0}


def test_window_size():
    sizes = np.array([[360, 480], [375, 400]])
    assert window_size((320, 448), (0.5, 2.0), sizes) == (375, 480)
    assert window_size((100, 100), (0.5, 2.0), sizes) == (200, 200)
    assert window_size((32, 32), (0.1, 1.0), np.array([[999, 999]])) == (320, 320)
    with pytest.raises(UserError, match="scale_range"):
        window_size((8, 8), (2.0, 0.5), sizes)
    with pytest.raises(UserError, match="scale_range"):
        window_size((8, 8), (0.0, 1.0), sizes)


def test_cut_copies_and_fills():
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert (cut(image, (1, 2), (2, 3), fill=9) == image[1:3, 2:5]).all()
    assert not np.shares_memory(cut(image, (0, 0), (4, 6), fill=9), image)
    padded = cut(image, (0, 0), (5, 8), fill=9)
    assert (padded[:4, :6] == image).all() and (padded[4:] == 9).all() and (padded[:, 6:] == 9).all()
