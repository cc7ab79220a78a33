import pytest

from segjax.data.threads import ordered_map
from segjax.errors import UserError


def test_ordered_map_keeps_order_bounds_memory_and_ends_on_error():
    started = []

    def work(i):
        started.append(i)
        return i * i

    results = ordered_map(work, iter(range(100)), workers=3)
    assert next(results) == 0 and len(started) <= 7
    assert list(results) == [i * i for i in range(1, 100)]

    def fail(i):
        if i == 5:
            raise UserError("five")
        return i

    with pytest.raises(UserError, match="five"):
        list(ordered_map(fail, range(1000), workers=2))
