"""DPN-68 against the size of its port and against its definition in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.models.backbones.dpn import DPN68, DualPathBlock
from segjax.models.layers import BatchNorm, Conv
from tests.networks import count

IMAGES = jnp.zeros((1, 65, 96, 3))


def test_the_parameters_are_those_of_the_port():
    """With the last norm and a classifier of 1000 classes; names are compared in tests/weights."""
    trunk = DPN68(Conv, BatchNorm)
    maps, variables = jax.eval_shape(trunk.init_with_output, jax.random.key(0), IMAGES)
    assert count(variables["params"]) + 2 * 832 + 833 * 1000 == 12_611_602
    assert {stride: y.shape[1:] for stride, y in maps.items()} == {
        2: (33, 48, 10), 4: (17, 24, 144), 8: (9, 12, 320), 16: (5, 6, 704), 32: (3, 3, 832)
    }  # fmt: skip


def test_the_trunk_has_no_dilated_form():
    with pytest.raises(UserError, match="output_stride=16 is not possible with DPN-68"):
        jax.eval_shape(DPN68(Conv, BatchNorm, output_stride=16).init, jax.random.key(0), IMAGES)


def unit(leaves, stats, x, stride=1, groups=1):
    """Batch norm, ReLU, convolution of (h, w, c), in NumPy."""
    norm, stats = leaves["bn"], stats["bn"]
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    kernel, (h, w) = leaves["conv"]["kernel"], x.shape[:2]
    k, _, inner, out = kernel.shape
    padded = np.pad(np.maximum(x, 0), ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    y = np.zeros((-(-h // stride), -(-w // stride), out))
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            patch = padded[stride * i : stride * i + k, stride * j : stride * j + k]
            for g in range(groups):
                part, own = patch[..., g * inner : (g + 1) * inner], slice(g * out // groups, (g + 1) * out // groups)
                y[i, j, own] = np.einsum("abc,abco->o", part, kernel[..., own])
    return y


@pytest.mark.parametrize("first, stride", [(True, 2), (False, 1)])
def test_a_block_adds_one_part_and_appends_the_other(first, stride):
    """16 channels are added, 4 appended; the first block of a stage projects its input to 16 and 8 channels."""
    rng = np.random.default_rng(2)
    added, appended = (rng.standard_normal((1, 5, 6, c)) for c in (16, 12))
    with jax.enable_x64(True):
        wide = dict(dtype=jnp.float64)
        block = DualPathBlock(16, 4, partial(Conv, **wide), partial(BatchNorm, **wide), first, stride)
        shapes = jax.eval_shape(block.init, jax.random.key(0), (added, appended))
        variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape) - 0.5, shapes)
        found = jax.jit(block.apply)(variables, (added, appended))

    params, stats = variables["params"], variables["batch_stats"]
    run = lambda name, x, **options: unit(params[name], stats[name], x, **options)  # noqa: E731
    x = np.concatenate([added, appended], -1)[0]
    y = run("c1x1_c", run("c3x3_b", run("c1x1_a", x), stride=stride, groups=32))
    base = run("c1x1_w_s2", x, stride=2) if first else x
    expected = base[..., :16] + y[..., :16], np.concatenate([base[..., 16:], y[..., 16:]], -1)
    for ours, theirs in zip(found, expected):
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-10)
