"""The segment "loss": the same step, without an array of the images' size with all classes in the backward pass."""

import jax
import numpy as np
import pytest

from segjax.models.heads import seg_output
from segjax.training.optimizer import make_optimizer
from segjax.training.state import create_state
from segjax.training.step import make_train_step
from segjax.training.update import make_update
from tests.training.fake_network import BATCH, CLASSES, HEIGHT, WIDTH, batch, plain_images, rate, terms

PARAMS = {"w": np.random.default_rng(0).standard_normal((3, CLASSES)).astype(np.float32)}


def apply(variables, images, *, train, rngs, mutable):
    low = images[:, ::8, ::8] @ variables["params"]["w"]
    own = {"a": low[:, ::2]}  # keeps its own size
    output = seg_output(
        {"logits": low, "b": -low}, {}, (HEIGHT, WIDTH), align_corners=False, padded=(HEIGHT + 8, WIDTH), aux=own
    )
    return output, {"batch_stats": {}}


def step_and_state(recompute_loss, accumulate_steps=1):
    optimizer = make_optimizer("sgd", rate, params=PARAMS, momentum=0.0)
    state = create_state({"params": PARAMS, "batch_stats": {}}, optimizer, ema=False)
    step = make_train_step(
        apply, terms(), make_update(optimizer, rate), plain_images, seed=0, accumulate_steps=accumulate_steps,
        recompute_loss=recompute_loss,
    )  # fmt: skip
    return step, state


@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_loss_and_gradients_are_those_without(accumulate_steps):
    results = []
    for recompute in (False, True):
        step, state = step_and_state(recompute, accumulate_steps)
        state, metrics = jax.jit(step)(state, batch(), {})
        results.append((state.params["w"], metrics))
    (plain, metrics), (again, others) = results
    assert np.abs(plain - PARAMS["w"]).max() > 0.01
    np.testing.assert_allclose(again, plain, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), others, metrics)


def test_no_logits_of_the_images_size_are_kept():
    """The backward pass of the loss reads the low logits and the targets."""

    def read_again(recompute):
        step, state = step_and_state(recompute)
        eqns = jax.make_jaxpr(step)(state, batch(), {}).jaxpr.eqns
        again = [eqn for eqn in eqns if eqn.primitive.name in ("remat", "remat2", "checkpoint")]
        return [var.aval for eqn in again for var in eqn.invars]

    assert not read_again(False)
    found = read_again(True)
    assert any(a.shape == (BATCH, HEIGHT // 8, WIDTH // 8, CLASSES) for a in found)
    assert max(a.size for a in found) <= BATCH * HEIGHT * WIDTH  # the labels
