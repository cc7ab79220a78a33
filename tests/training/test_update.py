"""What every step ends with: one update, the same for images and for video, and what each step gives it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.training.optimizer import make_optimizer
from segjax.training.state import create_state
from segjax.training.step import make_train_step
from segjax.training.terms import LossTerm
from segjax.training.update import make_update
from segjax.training.video_step import make_video_step, video_loss
from segjax.typing import SegOutput, Sum


def schedule(step):
    return 0.1 / (1.0 + step)


def begin(params, *, average=True, stats=None):
    """(update, state, optimizer) two updates into a run with moments, decay and an average."""
    optimizer = make_optimizer("adam", schedule, params=params, weight_decay=0.1)
    update = make_update(optimizer, schedule, ema_decay=0.9)
    state = create_state({"params": params, "batch_stats": stats or {}}, optimizer, ema=average)
    for scale in (1.0, -0.5):
        state, _ = update(state, jax.tree.map(lambda p, scale=scale: scale * p, params), stats or {})
    return update, state, optimizer


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("average", [True, False])
def test_an_update_is_what_its_parts_give_by_hand(average):
    params = {"a": jnp.array([1.0, -2.0]), "b": {"c": jnp.array([[0.5]])}}
    stats, grads = {"bn": {"mean": jnp.array([3.0])}}, {"a": jnp.array([0.3, 4.0]), "b": {"c": jnp.array([[-1.0]])}}
    update, state, optimizer = begin(params, average=average, stats={"bn": {"mean": jnp.array([7.0])}})
    new, metrics = update(state, grads, stats)

    changes, moments = optimizer.update(grads, state.opt_state, state.params)
    wanted = jax.tree.map(lambda p, change: p + change, state.params, changes)
    assert int(new.step) == 3 and int(moments["count"]) == 3
    assert_same((new.params, new.batch_stats, new.opt_state), (wanted, stats, moments))
    decay = min(0.9, (1 + 2) / (10 + 2))
    follow = lambda old, now: decay * old + (1 - decay) * now  # noqa: E731
    if average:
        averaged = jax.tree.map(follow, state.ema, {"params": wanted, "batch_stats": stats})
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new.ema, averaged)
    else:
        assert new.ema == {}
    norm = lambda tree: np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(tree)))  # noqa: E731
    assert set(metrics) == {"lr", "grad_norm", "param_norm"}
    assert float(metrics["lr"]) == pytest.approx(0.1 / 3)  # of the step that is done, before its number rises
    assert float(metrics["grad_norm"]) == pytest.approx(norm(grads))
    assert float(metrics["param_norm"]) == pytest.approx(norm(wanted))


def test_the_step_of_images_ends_with_it():
    update, state, _ = begin({"w": jnp.array([0.5, -1.0, 2.0])}, stats={"mean": jnp.zeros(3)})
    images = jnp.linspace(0.0, 1.0, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)

    def apply(variables, images, *, train, rngs, mutable):
        return SegOutput(images * variables["params"]["w"]), {"batch_stats": {"mean": images.mean((0, 1, 2))}}

    def loss(logits, targets, *, epoch):
        return Sum((logits**2).sum(), jnp.float32(logits.size))

    step = make_train_step(
        apply,
        (LossTerm("main", loss, weight=0.5),),
        update,
        lambda batch, frozen: (batch["image"], {"labels": jnp.zeros((2, 4, 4), jnp.int32)}),
        seed=0,
    )
    after, metrics = step(state, {"image": images, "epoch": jnp.zeros(2, jnp.int32)}, {})
    value = lambda params: 0.5 * (jnp.sum((images * params["w"]) ** 2) / images.size)  # noqa: E731
    wanted, others = update(state, jax.grad(value)(state.params), {"mean": images.mean((0, 1, 2))})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after, wanted)
    assert list(metrics) == ["loss", "main", *others]
    assert float(metrics["loss"]) == pytest.approx(float(value(state.params)))
    assert float(metrics["main"]) == pytest.approx(2 * float(value(state.params)))


def test_the_step_of_videos_ends_with_it_and_looks_at_frozen_features():
    update, state, _ = begin({"gain": jnp.array(0.75)})
    rng = np.random.default_rng(0)
    batch = {
        "images": jnp.asarray(rng.integers(0, 256, (2, 3, 8, 8, 3)), jnp.uint8),
        "flows": jnp.asarray(rng.normal(size=(2, 1, 8, 8, 2)), jnp.float32),
        "weight": jnp.array([1.0, 0.0]),
    }
    weights = {"color": 0.7, "smooth": 0.1, "perceptual": 0.2}

    def apply(variables, images, flows, *, train):
        assert images.shape[1] == 2, "the network must not see the frame that it learns"
        return SimpleNamespace(frame=variables["params"]["gain"] * images[:, -1], flow=flows[:, -1])

    step = make_video_step(
        apply, update, frames=2, weights=weights, features=lambda frozen, frames: {"map": frozen["scale"] * frames}
    )
    target, before = (batch["images"][:, i].astype(jnp.float32) for i in (2, 1))
    losses = []
    for scale in (1.0, 2.0):

        def value(params, scale=scale):
            return video_loss(
                params["gain"] * before, batch["flows"][:, 0], target, batch["weight"],
                weights=weights, features=lambda frames: {"map": scale * frames},
            )  # fmt: skip

        after, metrics = step(state, batch, {"scale": jnp.float32(scale)})
        (loss, terms), grads = jax.value_and_grad(value, has_aux=True)(state.params)
        wanted, others = update(state, grads, {})
        assert_same(after, wanted)
        assert list(metrics) == ["loss", *terms, "used", *others] and float(metrics["used"]) == 0.5
        assert_same(dict(metrics), {"loss": loss, **terms, "used": jnp.float32(0.5), **others})
        losses.append(float(loss))
    assert losses[0] != losses[1]
