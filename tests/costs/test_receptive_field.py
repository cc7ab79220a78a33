"""Receptive fields against sums of windows by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from segjax import ops
from segjax.costs.receptive_field import receptive_field
from segjax.models.backbones.densenet import DenseNet
from segjax.models.layers import BatchNorm, Conv

IMAGES = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)


def convolved(v, x, **options):
    return ops.conv2d(x, v["kernel"], **options)


@pytest.mark.parametrize(
    "layers, expected",
    [
        (lambda v, x: x, 1),
        (partial(convolved, padding=1), 3),
        (partial(convolved, padding=2, dilation=2), 5),
        (lambda v, x: convolved(v, ops.max_pool(x, 3, 2, 1), padding=1), 3 + 2 * 2),
        (lambda v, x: ops.avg_pool(convolved(v, x, stride=2, padding=1), 2), 3 + 1 * 2),
        (lambda v, x: convolved(v, x, padding=1) + x, 3),
        (lambda v, x: jax.checkpoint(partial(convolved, padding=1))(v, convolved(v, x, padding=1)), 5),
    ],
)
def test_windows_and_strides_add_up(layers, expected):
    variables = {"kernel": jax.ShapeDtypeStruct((3, 3, 3, 3), jnp.float32)}
    assert receptive_field(layers, variables, IMAGES) == expected


@pytest.mark.parametrize(
    "options, sums",
    [
        (dict(), 7 + 2 * 2 + 2 * 8 + 4 + 2 * 16 + 8 + 2 * 32 + 16 + 2 * 64),
        (dict(stem_pool=2, splits=(3,)), 7 + 1 * 2 + 2 * 8 + 4 + 2 * 16 + 8 + 32 + 16 + 64 + 32 + 2 * 128),
        (dict(output_stride=16), 7 + 2 * 2 + 2 * 8 + 4 + 2 * 16 + 8 + 2 * 32 + 2 * 64),
    ],
)
def test_densenets_of_two_layers_a_block(options, sums):
    """A 3x3 convolution at stride s adds 2 s pixels, a mean of 2 s; a split halves the second part of its block."""
    trunk = DenseNet(121, partial(Conv), partial(BatchNorm), growth=4, blocks=(2, 2, 2, 2), **options)
    variables = jax.eval_shape(trunk.init, jax.random.key(0), IMAGES)
    assert receptive_field(lambda v, x: list(trunk.apply(v, x).values())[-1], variables, IMAGES) == sums
