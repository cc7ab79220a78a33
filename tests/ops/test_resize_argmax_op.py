"""Class ids of enlarged logits: equality with argmax of the enlarged logits, on every platform's lowering."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import made_for, resize, resize_argmax

module = sys.modules["segjax.ops.resize_argmax"]  # the package exports the function by this name


def logits_of(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    "shape, size",
    [
        ((2, 8, 12, 19), (64, 96)),
        ((1, 7, 9, 5), (50, 73)),
        ((1, 20, 30, 4), (11, 60)),  # fewer rows
        ((1, 1, 1, 3), (5, 6)),
        ((1, 6, 5, 2), (1, 1)),
        ((1, 6, 5, 1), (9, 9)),
        ((1, 6, 5, 300), (9, 7)),
    ],
)
def test_ids_are_the_argmax_of_the_enlarged_logits(shape, size, align_corners):
    x = logits_of(*shape)
    expected = np.argmax(jax.jit(lambda x: resize(x, size, align_corners=align_corners))(x), -1)
    found = jax.jit(lambda x: resize_argmax(x, size, align_corners=align_corners))(x)
    assert found.shape == (shape[0], *size) and found.dtype == (np.uint8 if shape[-1] < 256 else np.int32)
    np.testing.assert_array_equal(found, expected)
    with made_for("tpu"):
        by_products = resize_argmax(x, size, align_corners=align_corners)
    assert (by_products == expected).mean() > 0.999 and by_products.dtype == found.dtype  # other sums of the same terms


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_blocks_of_rows_change_nothing(platform, monkeypatch):
    x = logits_of(2, 8, 12, 5)
    with made_for(platform):
        whole = resize_argmax(x, (37, 50), align_corners=False)
        monkeypatch.setattr(module, "BLOCK_BYTES", 4000)
        np.testing.assert_array_equal(resize_argmax(x + 0, (37, 50), align_corners=False), whole)


def test_of_equals_it_is_the_first_class():
    x = np.zeros((1, 4, 4, 3), np.float32)
    x[0, :, 2:, 1:] = 1
    ids = resize_argmax(x, (4, 8), align_corners=False)[0]
    assert ids.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]] * 4
    assert resize_argmax(x, (4, 4), align_corners=True)[0].tolist() == [[0, 0, 1, 1]] * 4


def test_half_precision_is_compared_in_float32():
    x = jnp.asarray(logits_of(1, 5, 6, 7), jnp.bfloat16)
    wide = resize_argmax(x.astype(jnp.float32), (23, 31), align_corners=True)
    np.testing.assert_array_equal(resize_argmax(x, (23, 31), align_corners=True), wide)


def test_no_array_has_the_size_of_the_enlarged_logits():
    x = logits_of(1, 16, 16, 19)
    program = jax.jit(lambda x: resize_argmax(x, (256, 512), align_corners=True)).lower(x).compile()
    assert program.memory_analysis().temp_size_in_bytes < 256 * 512 * 19 * 4 / 4
