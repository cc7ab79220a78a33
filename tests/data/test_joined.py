"""Several sources as one, what an epoch of them is made of, and the epoch at which the extra data ends."""

import numpy as np
import pytest

from segjax.data.joined import Joined, Subset, class_difference
from segjax.errors import UserError
from tests.data.fake_source import FakeSource


class Source(FakeSource):
    """With the label map that joined sources take their classes from."""

    @property
    def label_map(self):
        from segjax.data.label_map import LabelMap

        return LabelMap.identity(self.class_names, self.palette)


def test_joined_sources_follow_each_other():
    joined = Joined([Source(3), Source(4, sizes=((8, 9),)), Subset(Source(6, shift=1), np.array([5, 2]))])
    assert len(joined) == 9 and joined.offsets.tolist() == [0, 3, 7, 9] and joined.num_classes == 4
    assert joined.names == ["fake-0", "fake-1", "fake-2", "fake-0", "fake-1", "fake-2", "fake-3", "fake-5", "fake-2"]
    assert joined.sizes.tolist() == [[24, 32]] * 3 + [[8, 9]] * 4 + [[24, 32]] * 2
    assert joined[2].image[0, 0, 2] == 2 and joined[3].image.shape == (8, 9, 3) and joined[7].frame == 5
    for i in range(9):
        np.testing.assert_array_equal(joined.label(i), joined[i].label)
    for read in (joined.__getitem__, joined.label):
        with pytest.raises(IndexError):
            read(9)
    with pytest.raises(UserError, match="same classes"):
        Joined([Source(2), Source(2, num_classes=3)])


def test_how_classes_differ():
    assert class_difference("abc", "abc") == ""
    assert class_difference("abc", "ab") == "lacks 1 of the common 3 classes (c)"
    assert class_difference("ab", "abcd") == "has 2 of its 4 classes (c, d), which are not among the common ones"
    assert class_difference("abcdefghi", "a") == "lacks 8 of the common 9 classes (b, c, d, e, f and 3 more)"
    assert class_difference("abc", "acb") == "has the same classes in another order (train_id 1 is 'c' instead of 'b')"
    assert class_difference("aab", "ab") == "lacks 1 of the common 3 classes (a)"
