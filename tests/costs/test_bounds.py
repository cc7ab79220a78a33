import pytest

from segjax.costs.bounds import Bounds, bounds
from segjax.costs.chips import CHIPS

CHIP = CHIPS["v5e"]


def test_the_largest_bound_counts():
    found = bounds(CHIP, flops=197e9, accessed=819e6 * 4, sent=1e9, link=100e9, images=8, useful=98.5e9)
    assert (found.flops, found.memory, found.links) == pytest.approx((1e-3, 4e-3, 10e-3))
    assert found.limit == "links" and found.seconds == pytest.approx(10e-3)
    assert found.images_per_second == pytest.approx(800)
    assert found.mfu == pytest.approx(0.05)


def test_without_messages_links_take_no_time():
    found = bounds(CHIP, flops=197e9, accessed=1.0, sent=0.0, link=0.0, images=1)
    assert found.links == 0 and found.limit == "flops" and found.mfu == pytest.approx(1)


def test_a_loop_that_is_counted_once_does_not_lower_the_bound():
    found = bounds(CHIP, flops=1e9, accessed=1.0, sent=0.0, link=0.0, images=1, useful=197e9)
    assert found.flops == pytest.approx(1e-3) and found.mfu == pytest.approx(1)


def test_plain_data_and_back():
    found = bounds(CHIP, flops=1e9, accessed=2e9, sent=3e9, link=4e9, images=5)
    assert Bounds.from_dict(found.to_dict()) == found
    assert found.to_dict()["limit"] == "links"
