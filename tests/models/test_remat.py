"""Segments of recomputation: names, and a thin ladder whose gradients, statistics and dropout are those without."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models
from segjax.costs.modules import saved_for_backward
from segjax.errors import UserError
from segjax.models.remat import SEGMENTS, rematerialised, segments
from tests.parity_tools import formula_variables

THIN = dict(layout="32to4", growth=4, blocks=(1, 2, 2, 1), width=8, grid_rows=(2, 1), layer_dropout=0.3)
# of the paper's Table 11, and ours
ROWS = (
    "conv3x3", "cat1x1", "cat1x1+conv3x3", "block+stem+td+up", "layer", "layer+stem+td+up",
    "layer+stem+td+up+spp+head",
)  # fmt: skip


def test_names_of_segments():
    assert segments(False) == segments("") == segments("False") == frozenset()
    assert (
        segments(True, "layer+stem")
        == segments("True", "stem+layer")
        == segments(" stem + layer ")
        == {"layer", "stem"}
    )
    assert segments("full") == set(SEGMENTS)
    assert segments(segments("td")) == {"td"}
    with pytest.raises(UserError, match="remat='layer,stem': segment 'layer,stem' does not exist; join names with"):
        segments("layer,stem")
    assert rematerialised(len, "layer", "stem") is len


def test_the_usual_choice_of_a_ladder_and_of_a_network_before_it():
    assert models.create("ldn121", 5, remat=True).recomputed == {"layer", "stem", "td", "up"}
    assert models.create("lrn18", 5, remat=True).recomputed == {"block", "stem", "up"}
    assert models.create("swiftnet_r18", 5, remat=True).recomputed == {"block"}
    assert models.create("deeplabv3plus_r18", 5, trunk="densenet121", remat=True).recomputed == {"layer"}
    assert "loss" in models.create("ldn121", 5, remat="full").recomputed


def test_a_video_network_has_its_own_segments():
    assert models.create_video("sdcnet2d", remat="up").remat == "up"
    with pytest.raises(UserError, match="sdcnet2d has no segment 'loss' .*; choose of block, up"):
        models.create_video("sdcnet2d", remat="block+loss")


def loss(params, others, x, remat):
    net = models.create("ldn121", 3, dtype="float64", remat=remat, **THIN)
    output, new = net.apply(
        {"params": params, **others}, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
    )
    return sum(jnp.sum(jnp.sin(head)) for head in (output.logits, *output.aux.values())), new


@lru_cache
def gradients(remat):
    """(gradients, new statistics), in float64."""
    with jax.enable_x64(True):
        variables = formula_variables(models.create("ldn121", 3, **THIN), small=".*")
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64, 96, 3)))
        grad = jax.jit(partial(jax.grad(loss, has_aux=True), remat=remat))
        return jax.device_get(grad(variables.pop("params"), variables, x))


@pytest.mark.parametrize("remat", [*(pytest.param(row, marks=pytest.mark.slow) for row in ROWS[:-1]), ROWS[-1]])
def test_gradients_statistics_and_dropout_are_those_without(remat):
    (expected, statistics), (found, others) = gradients(""), gradients(remat)
    largest = max(np.abs(g).max() for g in jax.tree.leaves(expected))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-9 * largest), found, expected)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), others, statistics)


def test_larger_segments_keep_less():
    """Kept alone does not show the memory of the gradients; benchmarks/checkpointing.py measures that."""
    x = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)

    def kept(remat):
        net = models.create("ldn121", 3, remat=remat, **THIN)
        variables = jax.eval_shape(net.init, jax.random.key(0), x)

        def apply(params, statistics, x):
            output, _ = net.apply(
                {"params": params, **statistics}, x, train=True, mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )  # fmt: skip
            return output.logits, output.aux

        params = variables.pop("params")
        return sum(saved_for_backward(apply, params, variables, x).values())

    rows = [kept(remat) for remat in ("", "cat1x1+conv3x3", ROWS[-1])]
    assert rows == sorted(rows, reverse=True) and len(set(rows)) == len(rows)
