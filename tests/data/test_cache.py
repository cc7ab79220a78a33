import pickle

from segjax.data import CachedSource
from tests.data.fake_source import FakeSource


def test_cache_keeps_what_fits_and_travels_empty():
    source = FakeSource(6)
    size = 24 * 32 * 4
    cached = CachedSource(source, max_bytes=3 * size)
    for _ in range(2):
        for i in range(6):
            assert cached[i].image[0, 0, 2] == i
    assert cached.bytes == 3 * size and source.reads == 6 + 3
    assert cached.names == source.names and len(cached) == 6 and cached.num_classes == 4
    source.images = source.reads = 0
    for i in range(6):
        assert (cached.label(i) == FakeSource(6).label(i)).all()
    assert source.images == 0 and source.reads == 3  # what is kept is not read again
    copy = pickle.loads(pickle.dumps(cached))
    assert copy.bytes == 0 and copy.max_bytes == cached.max_bytes and copy[2].name == "fake-2"
