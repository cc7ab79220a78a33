"""Labels that the network gives itself in training, against a plain computation of them before the step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import augment, losses, parallel
from segjax.models.layers import BatchNorm
from segjax.training.online import label_online
from segjax.training.optimizer import make_optimizer
from segjax.training.part_losses import number_of_part
from segjax.training.state import create_state
from segjax.training.step import make_train_step
from segjax.training.terms import TermOptions, loss_terms
from segjax.training.update import make_update
from segjax.typing import SegOutput

K, H, W, B = 4, 12, 16, 8
PARTS = {"real": (0, 3), "own": (3, 5), "sure": (5, 8)}
THRESHOLDS = {1: (0.3, 0.3, 0.3, 0.3), 2: (0.0, 0.5, 1.0, 0.4)}
MEAN, STD = augment.normalisation("imagenet")
VIEWS = dict(seed=3, crop=(H, W), mean=MEAN, std=STD)
JITTER = dict(color_jitter=dict(brightness=0.5, hue=0.2), blur=dict(sigma=(0.5, 1.3)))


class Network(nn.Module):
    """Batch norm and dropout, which differ between training and evaluation."""

    @nn.compact
    def __call__(self, images, train=False):
        x = BatchNorm(train=train, name="bn")(nn.Conv(6, (3, 3), name="conv")(images))
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return SegOutput(3.0 * nn.Conv(K, (1, 1), name="classifier")(x))


def batch(soft=False):
    rng = np.random.default_rng(0)
    label = rng.integers(0, K, (B, 20, 24)).astype(np.uint8)
    label[3:5] = 255  # one part has no labels, the other has labels that must not be seen
    box = np.tile(np.float32([2, 3, 2 + H, 3 + W]), (B, 1))
    box[6] = [10, 3, 10 + H, 3 + W]  # shows padding
    found = {
        "image": rng.integers(0, 256, (B, 20, 24, 3), dtype=np.uint8),
        "label": label,
        "extent": np.tile(np.float32([0, 0, 20, 24]), (B, 1)),
        "box": box,
        "index": np.arange(B, dtype=np.int32),
        "record": np.arange(B, dtype=np.int32),
        "epoch": np.zeros(B, np.int32),
    }
    if soft:
        found["soft_ids"] = np.stack([label, (label + 1) % K], -1).astype(np.uint8)
        found["soft_shares"] = np.full((B, 20, 24, 2), 100, np.uint8)
    return found


@pytest.fixture(scope="module")
def variables():
    found = jax.jit(Network().init)(jax.random.key(1), jnp.zeros((1, H, W, 3)))
    stats = {"bn": {"mean": jnp.linspace(-0.4, 0.3, 6), "var": jnp.linspace(0.5, 2.0, 6)}}
    assert jax.tree.map(jnp.shape, stats) == jax.tree.map(jnp.shape, dict(found["batch_stats"]))
    return {"params": found["params"], "batch_stats": stats}


@pytest.fixture(scope="module")
def wanted(variables):
    """The labels (b, h, w), example by example, in numpy after the network."""
    images, targets = augment.augment_batch(batch(), **VIEWS)  # neither jitter nor blur
    labels = np.array(targets["labels"])
    padding = np.asarray(
        augment.augment_batch({**batch(), "label": np.zeros((B, 20, 24), np.uint8)}, **VIEWS)[1]["labels"]
    )
    logits = np.asarray(Network().apply(variables, images, train=False).logits, np.float64)
    for i in range(3, B):
        thresholds = THRESHOLDS[1 if i < 5 else 2]
        for y, x in np.ndindex(H, W):
            share = np.exp(logits[i, y, x]) / np.exp(logits[i, y, x]).sum()
            best = int(share.argmax())
            labels[i, y, x] = best if share[best] >= thresholds[best] and padding[i, y, x] == 0 else 255
    return labels


@jax.jit
def prepare(batch, frozen):
    images, targets = augment.augment_batch(batch, plain=True, **VIEWS, **JITTER)
    return images, {**targets, "part": number_of_part(batch["record"], PARTS)}


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_labels_are_those_of_the_network_on_plain_images(variables, wanted, micro_batches):
    complete = label_online(Network().apply, THRESHOLDS, micro_batches=micro_batches)
    targets = jax.jit(complete)(variables, prepare(batch(), {})[1])
    assert set(targets) == {"labels", "part"}
    np.testing.assert_array_equal(targets["labels"], wanted)
    own = wanted[3:]
    assert 0.05 < (own == 255).mean() < 0.95 and len(np.unique(own)) >= 4  # classes and ignored pixels
    assert (wanted[6] == 255).sum() > W and not np.array_equal(
        wanted[5:], np.asarray(prepare(batch(), {})[1]["labels"])[5:]
    )


def test_soft_labels_become_those_of_one_class(variables):
    before, complete = prepare(batch(soft=True), {})[1], label_online(Network().apply, THRESHOLDS)
    targets = jax.jit(complete)(variables, before)
    for name in ("soft_ids", "soft_shares"):
        np.testing.assert_array_equal(targets[name][:3], before[name][:3])
    np.testing.assert_array_equal(targets["soft_ids"][3:, ..., 0], targets["labels"][3:])
    assert (targets["soft_ids"][3:, ..., 1] == 255).all()
    np.testing.assert_array_equal(targets["soft_shares"][3:], np.broadcast_to([1.0, 0.0], (5, H, W, 2)))
    needed = (targets[name] for name in losses.targets_of(losses.top_k_cross_entropy))
    counted = losses.top_k_cross_entropy(jnp.zeros((B, H, W, K)), *needed).count
    assert float(counted) == (np.asarray(targets["labels"]) < K).sum()


TERMS = loss_terms({"main": TermOptions(name="cross_entropy")}, {"logits": 1.0}, parts=tuple(PARTS))


def run(variables, prepare, *, accumulate_steps=1, devices=1, **options):
    """(metrics, parameters) after a step."""
    mesh = parallel.make_mesh({"data": devices}, jax.devices()[:devices])
    rate = lambda step: jnp.float32(0.5)  # noqa: E731
    optimizer = make_optimizer("sgd", rate, params=variables["params"])
    step = make_train_step(
        Network().apply, TERMS, make_update(optimizer, rate), prepare,
        seed=0, accumulate_steps=accumulate_steps, constrain=parallel.constrain_images(mesh), parts=tuple(PARTS),
        **options,
    )  # fmt: skip
    state = jax.device_put(create_state(variables, optimizer, ema=False), parallel.replicated(mesh))
    state, metrics = jax.jit(step, out_shardings=parallel.replicated(mesh))(
        state, parallel.shard_batch(batch(), mesh), {}
    )
    return {name: float(value) for name, value in metrics.items()}, jax.device_get(state.params)


@pytest.mark.parametrize("options", [{}, dict(devices=8), dict(devices=2, accumulate_steps=2)], ids=str)
def test_a_step_is_that_with_the_labels_computed_before(variables, wanted, options):
    """Loss and parameters, so that no gradient passes through the labels."""
    images, targets = jax.device_get(prepare(batch(), {}))

    def unlabelled(batch, frozen):
        return jnp.asarray(images), jax.tree.map(jnp.asarray, targets)

    def given(batch, frozen):
        return jnp.asarray(images), {"labels": jnp.asarray(wanted), "part": jnp.asarray(targets["part"])}

    complete = label_online(Network().apply, THRESHOLDS, micro_batches=options.get("accumulate_steps", 1))
    metrics, params = run(variables, unlabelled, complete=complete, **options)
    wanted_metrics, wanted_params = run(variables, given, **options)
    assert metrics == pytest.approx(wanted_metrics, rel=1e-5)
    assert {"loss/real", "loss/own", "loss/sure"} <= set(metrics) and all(map(np.isfinite, metrics.values()))
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(wanted_params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
