"""Lines beyond the border are those of numpy, in both forms, and no concatenation is left for a split axis."""

import jax
import numpy as np
import pytest

from segjax.ops import for_platform
from segjax.ops.borders import repeat_border


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("axis, width", [(0, 3), (1, 1), (2, 7), (0, 0)])
def test_it_is_numpys_edge(platform, axis, width):
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    widths = [(width, width) if i == axis else (0, 0) for i in range(3)]
    found = for_platform(repeat_border, platform)(x, width, axis)
    np.testing.assert_array_equal(found, np.pad(x, widths, mode="edge"))


def test_other_platforms_do_not_concatenate():
    def text(platform):
        program = for_platform(lambda x: repeat_border(x, 2, 0), platform)
        return str(jax.make_jaxpr(program)(np.ones((4, 4), np.float32)))

    assert "concatenate" in text("cpu") and "concatenate" not in text("tpu")
