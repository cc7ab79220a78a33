"""Components from runs: the same places, in the same order, as from OpenCV in the mask of each class."""

import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segjax.data.centroids import component_centroids
from segjax.data.components import find_runs


def by_opencv(label, num_classes, *, min_area=1, inside=True, connectivity=8):
    """One component after the other; epochs are drawn from places by number, so that their order counts."""
    found = []
    for c, region in enumerate(scipy.ndimage.find_objects(label.astype(np.int32) + 1, max_label=num_classes)):
        if region is None:
            continue
        mask = (label[region] == c).view(np.uint8)
        count, parts, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
        for part in range(1, count):
            area = stats[part, cv2.CC_STAT_AREA]
            cy, cx = int(centres[part][1]), int(centres[part][0])
            if inside and parts[cy, cx] != part:
                rows, columns = np.nonzero(parts == part)
                best = np.argmin((rows - cy) ** 2 + (columns - cx) ** 2)
                cy, cx = rows[best], columns[best]
            if area >= min_area:
                found.append((c, cy + region[0].start, cx + region[1].start, area))
    table = np.array(found, np.int32).reshape(-1, 4)
    return table[:, 0], table[:, 1:3], table[:, 3]


def check(label, num_classes, **options):
    found = component_centroids(label, num_classes, **options), by_opencv(label, num_classes, **options)
    for ours, theirs in zip(*found):
        assert ours.dtype == theirs.dtype == np.int32
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=300, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 17), st.integers(1, 17)), elements=st.sampled_from([0, 1, 2, 255])),
    st.sampled_from([4, 8]), st.booleans(), st.integers(1, 3),
)  # fmt: skip
def test_small_labels(label, connectivity, inside, min_area):
    check(label, 3, connectivity=connectivity, inside=inside, min_area=min_area)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_regions_as_in_street_scenes(noise):
    rng = np.random.default_rng(0)
    scores = [cv2.resize(rng.random((6, 9), np.float32), (160, 120), interpolation=cv2.INTER_CUBIC) for _ in range(12)]
    label = np.argmax(scores, axis=0).astype(np.uint8)
    speckled = rng.random(label.shape) < noise
    label[speckled] = rng.integers(0, 14, speckled.sum())
    for connectivity in (4, 8):
        check(label, 12, connectivity=connectivity)
        check(label, 12, connectivity=connectivity, inside=False, min_area=16)


def test_runs_end_with_their_row():
    runs = find_runs(np.array([[1, 1, 0], [0, 0, 2], [255, 1, 1]], np.uint8), 2)
    assert list(zip(*(column.tolist() for column in runs))) == [
        (1, 0, 0, 1), (0, 0, 2, 2), (0, 1, 0, 1), (1, 2, 1, 2)
    ]  # fmt: skip


def test_nothing_of_any_class():
    for found in component_centroids(np.full((3, 4), 255, np.uint8), 5):
        assert len(found) == 0 and found.dtype == np.int32
