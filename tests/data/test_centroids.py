import numpy as np
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segjax.data.centroid_search import find_centroids
from segjax.data.centroids import component_centroids, concatenate, tile_centroids
from tests.data.fake_source import FakeSource

LABELS = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from([0, 1, 2, 255]))


def rows(found):
    classes, places, areas = found
    return sorted((int(c), int(y), int(x), int(a)) for c, (y, x), a in zip(classes, places, areas))


def published_tiles(label, tile):
    """VPLR: whole tiles only, centre of mass of each class, rounded down."""
    found = []
    for y in range(0, label.shape[0] // tile * tile, tile):
        for x in range(0, label.shape[1] // tile * tile, tile):
            part = label[y : y + tile, x : x + tile]
            for c in np.unique(part[part < 3]):
                cy, cx = scipy.ndimage.center_of_mass(part == c)
                found.append((int(c), y + int(cy + 1e-9), x + int(cx + 1e-9), int((part == c).sum())))
    return sorted(found)


@settings(max_examples=150)
@given(LABELS, st.integers(1, 9))
def test_tiles_as_published(label, tile):
    assert rows(tile_centroids(label, 3, tile=tile, remainder=False, inside=False)) == published_tiles(label, tile)


@settings(max_examples=150)
@given(LABELS, st.integers(0, 9))
def test_tiles_cover_every_pixel_and_lie_on_their_class(label, tile):
    classes, places, areas = tile_centroids(label, 3, tile=tile)
    assert all(label[y, x] == c for c, (y, x) in zip(classes, places))
    assert [areas[classes == c].sum() for c in range(3)] == [(label == c).sum() for c in range(3)]


def test_the_published_rule_has_no_tile_in_a_small_image():
    label = np.ones((720, 960), np.uint8)
    assert rows(tile_centroids(label, 3, tile=1024, remainder=False)) == []
    assert rows(tile_centroids(label, 3, tile=1024)) == [(1, 359, 479, 720 * 960)]


def test_inside_takes_the_nearest_pixel_of_the_object():
    label = np.zeros((9, 9), np.uint8)
    label[2:7, 2:7] = 1
    label[3:6, 3:6] = 0  # a ring: its centre of mass is in the hole
    assert [r[:3] for r in rows(tile_centroids(label, 2, tile=0, inside=False)) if r[0] == 1] == [(1, 4, 4)]
    for found in (tile_centroids(label, 2, tile=0), component_centroids(label, 2)):
        (_, y, x, area) = [r for r in rows(found) if r[0] == 1][0]
        assert area == 16 and label[y, x] == 1 and (y - 4) ** 2 + (x - 4) ** 2 == 4


@settings(max_examples=150)
@given(LABELS, st.sampled_from([4, 8]), st.integers(1, 4))
def test_components_as_scipy_finds_them(label, connectivity, min_area):
    structure = scipy.ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    expected = []
    for c in range(3):
        parts, count = scipy.ndimage.label(label == c, structure)
        for part in range(1, count + 1):
            cy, cx = scipy.ndimage.center_of_mass(parts == part)
            expected.append((c, int(cy + 1e-9), int(cx + 1e-9), int((parts == part).sum())))
    expected = sorted(e for e in expected if e[3] >= min_area)
    options = dict(connectivity=connectivity, min_area=min_area)
    assert rows(component_centroids(label, 3, inside=False, **options)) == expected
    classes, places, areas = component_centroids(label, 3, **options)
    assert all(label[y, x] == c for c, (y, x) in zip(classes, places))
    assert sorted(zip(classes.tolist(), areas.tolist())) == sorted((c, a) for c, _, _, a in expected)


def test_min_area_leaves_out_small_parts():
    label = np.zeros((8, 8), np.uint8)
    label[0, :3] = 1
    assert 1 in tile_centroids(label, 2, min_area=3)[0]
    assert 1 not in tile_centroids(label, 2, min_area=4)[0]


def test_places_of_rare_classes_of_another_source_can_be_added():
    one = find_centroids(FakeSource(3), "tiles", tile=16)
    two = find_centroids(FakeSource(2), "tiles", tile=16).of_classes([1, 3]).moved(3)
    both = concatenate([one, two])
    assert set(two.classes) == {1, 3} and set(two.records) == {3, 4} and len(both) == len(one) + len(two)
