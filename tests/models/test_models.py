"""What every network in MODELS must do; a new network is tested by being there."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models
from segjax.errors import UserError
from segjax.typing import SegOutput
from tests.parity_tools import formula_variables

SIZE = (33, 47)  # odd on purpose
FAST_COMPILE = {"xla_backend_optimization_level": 0}  # the programs run for milliseconds
every = pytest.mark.parametrize("name", models.names())


def images():
    return jnp.asarray(np.random.default_rng(0).standard_normal((2, *SIZE, 3)), jnp.float32)


@cache
def variables(name):
    """Formula weights (no program to compile); small BatchNorm weights keep deep networks tame."""
    return formula_variables(models.create(name, 5), small=".*")


def train_apply(module, variables, x):
    return module.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})


def train_loss(params, name, remat):
    module = models.create(name, 5, remat=remat)
    output, new = train_apply(module, variables(name) | {"params": params}, images())
    heads = [output.logits, *output.aux.values()]
    return sum(jnp.sum(jnp.sin(head)) for head in heads), new["batch_stats"]


@cache
def gradients(name, remat):
    """(gradients, new batch statistics, the program as text)."""
    grad = jax.grad(train_loss, has_aux=True)
    traced = jax.jit(grad, static_argnums=(1, 2)).trace(variables(name)["params"], name, remat)
    compiled = traced.lower().compile(compiler_options=FAST_COMPILE)
    return *jax.device_get(compiled(variables(name)["params"])), str(traced.jaxpr)


@every
def test_evaluation_gives_float32_logits_at_the_size_of_the_input(name):
    module = models.create(name, 5)
    apply = jax.jit(lambda v, x: module.apply(v, x, train=False))
    output = apply.lower(variables(name), images()).compile(compiler_options=FAST_COMPILE)(variables(name), images())
    assert isinstance(output, SegOutput)
    assert output.logits.shape == (2, *SIZE, 5) and output.logits.dtype == jnp.float32
    assert np.isfinite(output.logits).all() and float(output.logits.std()) > 0


@every
def test_training_changes_every_statistic_and_reaches_every_parameter(name):
    grads, stats, _ = gradients(name, False)
    flat = jax.tree_util.tree_leaves_with_path
    for (path, before), (_, after) in zip(flat(variables(name)["batch_stats"]), flat(stats)):
        assert np.isfinite(after).all() and not np.array_equal(before, after), path
    for path, grad in flat(grads):
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0, path


@every
def test_remat_changes_memory_and_nothing_else(name):
    """Also not the statistics, although every block runs twice, nor the dropout mask."""
    (plain, stats, plain_program), (remat, remat_stats, remat_program) = gradients(name, False), gradients(name, True)
    assert "remat" in remat_program and "remat" not in plain_program
    largest = max(np.abs(g).max() for g in jax.tree.leaves(plain))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat)):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4 * largest)
    for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(remat_stats)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@every
def test_shapes_types_and_options(name):
    """Abstract evaluation only: full size, all odd sizes, bfloat16 with float32 variables, remat with the same tree."""
    base = jax.eval_shape(models.create(name, 5).init, jax.random.key(0), images())
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(base))
    for options in ({"dtype": "bfloat16"}, {"remat": True}, {"bn_momentum": 0.05, "bn_eps": 1e-3}):
        module = models.create(name, 5, **options)
        assert jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, base, jax.eval_shape(
            module.init, jax.random.key(0), images())) == jax.tree.map(lambda _: True, base)  # fmt: skip
        output, new = jax.eval_shape(partial(train_apply, module), base, images())
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((output.logits, output.aux, new)))
    module = models.create(name, 19)
    for size in ((1024, 2048), (769, 769), (33, 50), (64, 71)):
        x = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
        tree = jax.eval_shape(module.init, jax.random.key(0), x)
        assert jax.eval_shape(partial(module.apply, train=False), tree, x).logits.shape == (1, *size, 19)


def test_unknown_names_and_options_are_named_with_a_suggestion():
    with pytest.raises(UserError, match="'fastscn'.*Did you mean 'fastscnn'"):
        models.create("fastscn", 5)
    with pytest.raises(UserError, match="no option 'dropuot'.*Did you mean 'dropout'"):
        models.create("fastscnn", 5, dropuot=0.1)
