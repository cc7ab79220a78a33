"""One training step gives the same numbers on any arrangement of devices and processes, and loses no pixel."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.training.terms import LossTerm
from segjax.typing import SegOutput, Sum
from tests.processes import run_together
from tests.training import fake_network


def run(axes: dict[str, int], **options):
    """(gradients, statistics, metrics, norm of the parameters) of one step."""
    count = int(np.prod(list(axes.values())))
    mesh = parallel.make_mesh(axes, jax.devices()[:count])
    step, state = fake_network.setup(constrain=parallel.constrain_images(mesh), **options)
    before = jax.device_get(state.params)
    state = jax.device_put(state, parallel.replicated(mesh))
    arrays = parallel.shard_batch(fake_network.batch(), mesh)
    state, metrics = jax.jit(step, out_shardings=parallel.replicated(mesh))(state, arrays, {})
    size = {"param_norm": metrics.pop("param_norm")}  # large: beside it the other metrics would hardly be compared
    return jax.device_get((jax.tree.map(lambda a, b: a - b, before, state.params), state.batch_stats, metrics, size))


def assert_close(got, wanted, tolerance):
    """Every number within `tolerance` of the norm of its kind: gradients, statistics, metrics.

    Float32 adds up in another order on other devices, and a ReLU here or there sees another side of 0.
    """
    for kind, (a, b) in enumerate(zip(got, wanted, strict=True)):
        scale = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(b)))
        for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
            worst = np.abs(x - y).max()
            assert worst <= tolerance * scale, (kind, jax.tree_util.keystr(path), worst, scale)


@pytest.fixture(scope="module")
def one_device():
    return run({"data": 1})


@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 2, "space": 4}], ids=str)
def test_same_loss_gradients_and_statistics_as_one_device(one_device, axes):
    assert_close(run(axes), one_device, 1e-5)


def test_fastscnn_on_8_devices():
    """The gradient of a deep network in float32 is only as exact as float32: its parity tolerance is 6e-3.

    With every array in float64 the gradients of this step on 1 and 8 devices differ by 1e-14 of their norm, the loss
    and the norm by 1e-16: it is the order of the sums.
    """
    options = {"name": "fastscnn", "loss": "relaxed_cross_entropy"}
    got, wanted = run({"data": 8}, **options), run({"data": 1}, **options)
    # the norm of the gradient can differ as much as the gradient itself does: 3e-5 of it with jax 0.12
    norm, wanted_norm = (result[2].pop("grad_norm") for result in (got, wanted))
    assert abs(norm - wanted_norm) <= 1e-3 * wanted_norm
    assert_close(got[1:], wanted[1:], 1e-5)
    assert_close(got[:1], wanted[:1], 1e-3)


def test_two_processes_with_two_devices_each(one_device, tmp_path):
    """Over jax.distributed, as on two hosts."""
    run_together(
        lambda address, i: [sys.executable, "-m", "tests.training.worker_step", address, i, tmp_path / f"{i}.npz"]
    )
    for i in range(2):
        with np.load(tmp_path / f"{i}.npz") as stored:
            leaves = [stored[f"{n}"] for n in range(len(stored.files))]
        assert_close(jax.tree.unflatten(jax.tree.structure(one_device), leaves), one_device, 1e-5)


WEIGHTS = (0.1, 4.0, 1.0, 2.0, 9.0)
ACCUMULATED = {
    "plain": ("cross_entropy", {}),
    "class weights": ("cross_entropy", dict(class_weights=WEIGHTS)),
    "weights of histograms": ("cross_entropy", dict(upper_bound=6.0)),
    "mean over images": ("cross_entropy", dict(class_weights=WEIGHTS, weight_mode="image_mean")),
    "relaxed": ("relaxed_cross_entropy", dict(class_weights=WEIGHTS)),
    "relaxed per image": ("relaxed_cross_entropy", dict(mode="per_image")),
    "soft targets": ("soft_target_cross_entropy", {}),
    "boundaries": ("boundary_aware_cross_entropy", {}),
}


@pytest.mark.parametrize("case", ACCUMULATED)
def test_accumulated_micro_batches_are_the_whole_batch(case):
    """With BatchNorm's statistics out of the game (a linear network), 4 micro-batches are the whole batch."""
    name, options = ACCUMULATED[case]
    labels = jnp.asarray(fake_network.batch()["label"]).astype(jnp.int32)
    function = lambda logits, y, *, epoch: fake_network.losses.LOSSES[name](logits, y["labels"], **options)  # noqa: E731
    plain = lambda logits, y, *, epoch: fake_network.losses.cross_entropy(logits, y["labels"])  # noqa: E731
    term = (LossTerm("main", function), LossTerm("all", plain, 0.5, on="aux"))
    params = {"w": jnp.linspace(-0.5, 0.5, 3 * fake_network.CLASSES).reshape(3, -1)}

    def apply(variables, images, *, train, rngs, mutable):
        logits = images @ variables["params"]["w"]
        return SegOutput(logits, {"a": logits[:, ::2, ::2], "b": -logits}), {"batch_stats": {}}

    def step(accumulate_steps):
        return fake_network.linear_step(apply, term, params, accumulate_steps=accumulate_steps)

    assert (labels[3] == 255).all()
    (whole, whole_metrics), (parts, parts_metrics) = step(1), step(4)
    gradient = params["w"] - whole.params["w"]
    np.testing.assert_allclose(params["w"] - parts.params["w"], gradient, atol=1e-5 * float(jnp.abs(gradient).max()))
    for metric in ("loss", "main", "all"):
        np.testing.assert_allclose(parts_metrics[metric], whole_metrics[metric], rtol=1e-5)


def test_ema_follows_the_parameters():
    mesh = parallel.make_mesh({"data": 1}, jax.devices()[:1])
    step, state = fake_network.setup(ema_decay=0.9)
    before = jax.device_get(state.ema["params"])
    after, _ = jax.jit(step)(state, parallel.shard_batch(fake_network.batch(), mesh), {})
    decay = min(0.9, 1 / 10)
    wanted = jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, before, jax.device_get(after.params))
    assert_close([jax.device_get(after.ema["params"])], [wanted], 1e-6)


def test_frozen_variables_reach_prepare():
    """As the step's third argument, not as part of the program: other variables need no new compilation."""
    seen, traced = [], []

    def prepare(batch, frozen):
        traced.append(1)
        images = jnp.broadcast_to(frozen["teacher"], (8, 4, 4, 3))
        return images, {"labels": jnp.zeros((8, 4, 4), jnp.int32), "soft": 2.0 * images}

    def distance(logits, targets, *, epoch):
        seen.append(sorted(targets))
        return Sum(((logits - targets["soft"]) ** 2).sum(), jnp.float32(logits.size))

    def apply(variables, images, *, train, rngs, mutable):
        return SegOutput(images * variables["params"]["w"]), {"batch_stats": {}}

    for accumulate_steps in (1, 4):
        step, state = fake_network.any_step(
            apply, (LossTerm("main", distance),), {"w": jnp.ones(3)}, prepare, accumulate_steps=accumulate_steps
        )
        before, step = len(traced), jax.jit(step)
        for teacher in (1.0, 3.0):
            after, metrics = step(state, {"epoch": jnp.zeros(8, jnp.int32)}, {"teacher": jnp.float32(teacher)})
            assert float(metrics["loss"]) == pytest.approx(teacher**2)
            np.testing.assert_allclose(after.params["w"], 1.0 + 2.0 * teacher**2 / 3, rtol=1e-6)
        assert len(traced) == before + 1
    assert all(names == ["labels", "soft"] for names in seen)
