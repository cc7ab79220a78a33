"""Compiled steps: on the CPU, too, segments are computed again, although XLA would merge both computations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxlib.version
import pytest

from segjax.models.layers import BatchNorm, Conv, relu
from segjax.models.remat import rematerialised
from segjax.training.compiled import CompiledSteps


class Block(nn.Module):
    """Convolution, norm, ReLU."""

    @nn.compact
    def __call__(self, x):
        return relu(BatchNorm(train=True, name="norm")(Conv(8, name="conv")(x)))


class Net(nn.Module):
    """Three blocks."""

    remat: bool | str = False

    @nn.compact
    def __call__(self, x):
        for i in range(3):
            x = rematerialised(Block, self.remat)(name=str(i))(x)
        return x


def program(remat):
    """(step, abstract arguments, shardings of the results) of a step that only updates the statistics."""
    net, x = Net(remat), jax.ShapeDtypeStruct((2, 16, 16, 8), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), x)

    def loss(params, statistics, x):
        y, new = net.apply({"params": params, "batch_stats": statistics}, x, mutable=["batch_stats"])
        return jnp.square(y).sum(), new["batch_stats"]

    def step(state, x):
        gradients, statistics = jax.grad(loss, has_aux=True)(state["params"], state["batch_stats"], x)
        return {"params": gradients, "batch_stats": statistics}

    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return step, (variables, x), jax.tree.map(lambda _: here, variables)


def norms(compiled):
    """How many times the program computes the mean of a norm's input: sums over pixels, of 8 channels."""
    return compiled.as_text().count("rsqrt(")


@pytest.mark.parametrize("remat, expected", [(False, 3), ("block", 6)])
def test_norms_are_computed_again_on_the_cpu(remat, expected):
    steps = CompiledSteps(lambda bucket: program(bucket))
    compiled = steps.get(remat)
    steps.close()
    assert norms(compiled) == expected


def test_without_the_option_xla_would_merge_them():
    step, arguments, _ = program("block")
    kept = jaxlib.version.__version_info__ >= (0, 11)
    assert norms(jax.jit(step).lower(*arguments).compile()) == (6 if kept else 3)
