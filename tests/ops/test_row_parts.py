"""Images whose rows are split over devices are enlarged as whole ones, and exchange rows only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.costs.collectives import collectives, totals
from segjax.ops import for_platform, resize
from segjax.ops.resize import resize_matrix
from segjax.ops.row_parts import in_row_parts, part_weights, row_parts


def both(x, size, **options):
    def run(x):
        y, backward = jax.vjp(lambda x: resize(x, size, **options), x)
        return y, *backward(jnp.sin(y))

    return run


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize(
    "size, options",
    [
        ((64, 12), {}),
        ((64, 12), {"align_corners": True}),
        ((24, 6), {}),
        ((32, 6), {"method": "bicubic"}),  # reads two rows of a neighbour: a product over all rows
        ((4, 3), {"antialias": True}),
        ((30, 12), {}),
    ],
)
def test_the_same_as_of_whole_images(platform, parts, size, options):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 6, 3)), jnp.float32)
    split = in_row_parts(for_platform(both(x, size, **options), platform), parts)
    for ours, whole in zip(split(x), both(x, size, **options)(x), strict=True):
        np.testing.assert_allclose(ours, whole, atol=1e-5)


def test_weights_of_parts_are_those_of_all_rows():
    matrix = resize_matrix(8, 32, "bilinear", False, False)
    found = part_weights(matrix, 4)
    whole = np.zeros((32, 10))
    for i, block in enumerate(found):
        whole[8 * i : 8 * (i + 1), 2 * i : 2 * i + 4] += block
    np.testing.assert_array_equal(whole[:, 1:-1], matrix)
    assert not whole[:, [0, -1]].any()
    assert part_weights(matrix, 3) is None  # the rows cannot be shared out
    assert part_weights(resize_matrix(8, 32, "bicubic", False, False), 4) is None


def test_neighbours_exchange_rows_and_nothing_is_summed():
    split = NamedSharding(jax.make_mesh((2,), ("space",), axis_types=(AxisType.Auto,)), P(None, "space"))
    x = jax.ShapeDtypeStruct((1, 16, 8, 3), jnp.float32, sharding=split)

    def messages(parts):
        program = in_row_parts(for_platform(both(x, (64, 32)), "tpu"), parts)
        compiled = jax.jit(program, out_shardings=split).lower(x).compile()
        return set(totals(collectives(compiled.as_text())))

    assert messages(2) == {"collective-permute"} and messages(1) != {"collective-permute"}
    assert row_parts() == 1
