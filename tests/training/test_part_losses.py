"""Parts of the training data: terms over some of them, and the loss of each for the log."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.training.part_losses import number_of_part, part_losses, terms_by_part
from segjax.training.step import make_train_step
from segjax.training.terms import LossTerm, TermOptions, loss_terms
from segjax.training.update import make_update
from segjax.typing import SegOutput, Sum
from tests import loss_oracles as oracle
from tests.training import fake_network

PARTS = (("real", (0, 3)), ("pseudo", (3, 8)))
TERMS = {
    "mixed": {
        "main": TermOptions(name="cross_entropy"),
        "smooth": TermOptions(name="model_regulariser", on="logits", weight=0.3, parts=("pseudo",)),
        "sharp": TermOptions(name="cross_entropy", on="logits", weight=0.5, parts=("real",)),
    },
    "plain": {"main": TermOptions(name="cross_entropy")},
    "hard": {
        "main": TermOptions(name="cross_entropy", on="logits"),
        "hard": TermOptions(name="ohem_cross_entropy", on="logits", options={"min_kept": 10**6}, parts=("pseudo",)),
        "easy": TermOptions(name="cross_entropy", on="logits", parts=("pseudo",)),
    },
}
HEADS = {"logits": 1.0, "aux": 0.4}
PARAMS = {"w": jnp.linspace(-0.5, 0.5, 3 * fake_network.CLASSES).reshape(3, -1)}


def apply(variables, images, *, train, rngs, mutable):
    logits = images @ variables["params"]["w"]
    return SegOutput(logits, {"aux": -0.5 * logits}), {"batch_stats": {}}


def prepare(parts, batch, frozen):
    images, targets = fake_network.plain_images(batch, frozen)
    return images, {**targets, "part": number_of_part(batch["record"], parts)}


@functools.cache
def run(parts=PARTS, terms="mixed", accumulate_steps=1, devices=1, empty=False):
    """Metrics and parameters after a step."""
    mesh = parallel.make_mesh({"data": devices}, jax.devices()[:devices])
    parts = dict(parts)
    step = make_train_step(
        apply,
        loss_terms(TERMS[terms], HEADS, parts=tuple(parts)),
        make_update(fake_network.make_optimizer("sgd", fake_network.rate, params=PARAMS), fake_network.rate),
        functools.partial(prepare, parts),
        seed=0,
        accumulate_steps=accumulate_steps,
        constrain=parallel.constrain_images(mesh),
        parts=tuple(parts),
    )
    optimizer = fake_network.make_optimizer("sgd", fake_network.rate, params=PARAMS)
    state = fake_network.create_state({"params": PARAMS, "batch_stats": {}}, optimizer, ema=False)
    batch = fake_network.batch()
    if empty:
        batch["label"][3:] = 255
    arrays = parallel.shard_batch(batch, mesh)
    state, metrics = jax.jit(step, out_shardings=parallel.replicated(mesh))(
        jax.device_put(state, parallel.replicated(mesh)), arrays, {}
    )
    return {name: float(value) for name, value in metrics.items()}, np.asarray(state.params["w"])


def by_hand():
    """Mean cross entropy of main, aux and the regulariser over the pixels of some examples, in float64."""
    images, targets = fake_network.plain_images(fake_network.batch(), {})
    logits = np.asarray(images, np.float64) @ np.asarray(PARAMS["w"], np.float64)
    labels = np.asarray(targets["labels"])

    def means(rows):
        valid = labels[rows] < fake_network.CLASSES
        hot = oracle.one_hot(labels[rows], fake_network.CLASSES)
        main, aux = (oracle.set_nll(x[rows], hot)[valid].mean() for x in (logits, -0.5 * logits))
        return main, aux, -oracle.log_softmax(logits[rows]).mean(-1)[valid].mean()

    return means(slice(0, 8)), means(slice(0, 3)), means(slice(3, 8))


def test_a_term_over_some_parts_and_the_loss_of_each_part():
    (main, aux, _), (real, real_aux, _), (pseudo, pseudo_aux, smooth) = by_hand()
    wanted = {
        "main": main,  # one mean over the pixels of all parts: eq. (3) of CSST
        "main.aux": aux,
        "smooth": smooth,
        "sharp": real,
        "loss": main + 0.4 * aux + 0.3 * smooth + 0.5 * real,
        "loss/real": real + 0.4 * real_aux + 0.5 * real,
        "loss/pseudo": pseudo + 0.4 * pseudo_aux + 0.3 * smooth,
    }
    metrics, _ = run()
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted, rel=2e-6)
    assert set(metrics) == {*wanted, "lr", "grad_norm", "param_norm"}


@pytest.mark.parametrize("options", [dict(accumulate_steps=4), dict(devices=8), dict(devices=2, accumulate_steps=2)])
def test_the_same_in_micro_batches_and_on_several_devices(options):
    metrics, params = run(**options)
    wanted, wanted_params = run()
    assert metrics == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(params, wanted_params, atol=1e-5)


def test_ohem_of_a_part_in_micro_batches_has_the_weights_of_its_own_pixels():
    """With every pixel kept, OHEM is cross entropy; its micro-batches are weighted by the pixels of the part."""
    metrics, _ = run(terms="hard", accumulate_steps=4)
    assert metrics["hard"] == pytest.approx(metrics["easy"], rel=1e-5)
    assert metrics["loss/pseudo"] == pytest.approx(3 * metrics["easy"], rel=1e-5)
    assert abs(metrics["hard"] - metrics["main"]) > 1e-3


@pytest.mark.parametrize("accumulate_steps", [1, 4])
def test_a_part_without_a_labelled_pixel_has_no_loss(accumulate_steps):
    absent, params = run(parts=(("real", (0, 8)), ("pseudo", (8, 9))), accumulate_steps=accumulate_steps)
    assert np.isnan(absent["loss/pseudo"]) and absent["loss"] == pytest.approx(absent["loss/real"], rel=1e-6)
    assert np.isnan(absent["smooth"]) and np.isfinite(absent["grad_norm"]) and np.isfinite(params).all()
    ignored, params = run(empty=True, accumulate_steps=accumulate_steps)
    assert (
        np.isnan(ignored["loss/pseudo"])
        and np.isnan(ignored["smooth"])
        and np.isfinite(ignored["loss"])
        and np.isfinite(params).all()
    )
    assert ignored["loss/real"] == pytest.approx(run()[0]["loss/real"], rel=1e-5)


def test_looking_at_parts_changes_no_bit_of_the_training():
    with_parts, params = run(terms="plain")
    without, wanted = run(parts=(("real", (0, 8)),), terms="plain")
    assert "loss/real" not in without and "loss/pseudo" in with_parts
    np.testing.assert_array_equal(params, wanted)
    assert with_parts["loss"] == without["loss"] and with_parts["grad_norm"] == without["grad_norm"]


def test_terms_of_parts():
    terms = (LossTerm("a", len), LossTerm("b", len, weight=2.0, parts=(1,)))
    assert terms_by_part(terms, ("real",)) == {}
    found = terms_by_part(terms, ("real", "x", "y"))
    assert {name: [(t.name, t.weight, t.parts) for t in own] for name, own in found.items()} == {
        "loss/real": [("loss/real/a", 1.0, (0,))],
        "loss/x": [("loss/x/a", 1.0, (1,)), ("loss/x/b", 2.0, (1,))],
        "loss/y": [("loss/y/a", 1.0, (2,))],
    }
    assert set(terms_by_part(terms[1:], ("real", "x"))) == {"loss/x"}  # no term looks at the real images


def test_the_loss_of_a_part_has_no_gradient():
    terms = (LossTerm("a", lambda logits, targets, *, epoch: Sum(logits.sum(), jnp.float32(1))),)
    targets = {"labels": jnp.zeros((2, 3, 3), jnp.int32), "part": jnp.array([0, 1])}

    def value(x):
        return part_losses(terms_by_part(terms, ("a", "b")), SegOutput(x), targets, epoch=jnp.int32(0))["loss/b"]

    x = jnp.ones((2, 3, 3, 4))
    assert float(value(x)) == 72 and not np.asarray(jax.grad(value)(x)).any()


def test_only_labels_of_the_parts_are_kept():
    term = LossTerm("a", len, parts=(0, 2), ignore_label=99)
    targets = {"labels": jnp.ones((3, 2, 2), jnp.int32), "part": jnp.array([0, 1, 2]), "soft": 1}
    found = term.of(targets)
    assert np.asarray(found["labels"])[:, 0, 0].tolist() == [1, 99, 1] and found["soft"] == 1
    assert np.asarray(term.labelled(targets)).sum((1, 2)).tolist() == [4, 0, 4]
    assert dataclasses.replace(term, parts=()).of(targets) is targets


def test_the_part_of_a_record():
    parts = {"real": (0, 3), "near": (3, 3), "far": (3, 9)}
    assert np.asarray(number_of_part(jnp.arange(9), parts)).tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 2]
    assert np.asarray(number_of_part(jnp.arange(3), {"real": (0, 3)})).tolist() == [0, 0, 0]
