"""Losses that a network brings for its heads: LDN's soft targets, with one count for heads, parts and micro-batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.errors import UserError
from segjax.training.step import make_train_step
from segjax.training.terms import LossTerm, TermOptions, loss_terms, total_loss, with_cells
from segjax.typing import SegOutput, Sum
from tests import loss_oracles as oracle
from tests.jaxprs import results
from tests.losses import test_soft_targets as soft
from tests.stand_in import Ladder
from tests.training import fake_network

K, BATCH, SIZE = 5, 4, (32, 44)  # 44 columns: cells of 16 and 8 pixels and 11, 6 and 3 columns do not divide them
NETWORK = Ladder(K)
HEADS = NETWORK.loss_names
RECIPE = {"main": TermOptions(name="cross_entropy", on="heads")}
SMOOTH = {"smooth": TermOptions(name="model_regulariser", on="logits", weight=0.1, parts=("pseudo",))}
FIRST_EPOCH = jnp.zeros((), jnp.int32)


def terms(options=RECIPE, parts=("real",)):
    return loss_terms(options, NETWORK.loss_weights, loss_names=NETWORK.loss_names, parts=parts)


def images():
    return oracle.noise(0, (BATCH, *SIZE, 3), 1.0)


def labels():
    found = oracle.blocks(0, (BATCH, *SIZE), void=0.3)
    found[1, :30] = 255  # a row with few valid cells: a mean of means would be wrong
    return found


def step_of(some_terms, accumulate_steps=1, parts=("real",), mesh=None):
    """(step, state) with plain SGD at rate 1, so that the parameters tell the gradient."""

    def prepare(batch, frozen):
        return batch["image"], {"labels": batch["label"].astype(jnp.int32), "part": batch["part"]}

    params = NETWORK.params
    optimizer = fake_network.make_optimizer("sgd", fake_network.rate, params=params, momentum=0.0)
    state = fake_network.create_state({"params": params, "batch_stats": {}}, optimizer, ema=False)
    update = fake_network.make_update(optimizer, fake_network.rate)
    options = dict(seed=0, accumulate_steps=accumulate_steps, parts=parts)
    options |= {"constrain": parallel.constrain_images(mesh)} if mesh else {}
    return make_train_step(NETWORK.apply, some_terms, update, prepare, **options), state


def batch_of(y, part=(0, 0, 1, 1)):
    return {
        "image": jnp.asarray(images()), "label": jnp.asarray(y), "part": jnp.asarray(part, jnp.int32),
        "epoch": jnp.zeros(BATCH, jnp.int32),
    }  # fmt: skip


BOTH = RECIPE | SMOOTH
JOINED = {"all": TermOptions(name="soft_target_cross_entropy", on="aux_joined")}
PROGRAMS = {
    "whole": (BOTH, 1, ("real", "pseudo")),
    "micro-batches": (BOTH, 4, ("real", "pseudo")),
    "micro-batches on 4 devices": (BOTH, 2, ("real", "pseudo"), {"data": 2, "space": 2}),
    "joined": (JOINED, 2, ("real",)),
}


@functools.cache
def program(name):
    options, accumulate_steps, parts, *axes = PROGRAMS[name]
    mesh = parallel.make_mesh(axes[0], jax.devices()[:4]) if axes else None
    step, state = step_of(terms(options, parts), accumulate_steps, parts, mesh)
    return jax.jit(step), state, mesh


def run(name, y):
    """(metrics, gradient by output) of one step."""
    step, state, mesh = program(name)
    batch = batch_of(y)
    if mesh:
        state, batch = (
            jax.device_put(state, parallel.replicated(mesh)),
            parallel.shard_batch(jax.device_get(batch), mesh),
        )
    after, metrics = step(state, batch, {})
    gradient = jax.tree.map(lambda a, b: np.asarray(a - b), NETWORK.params, dict(after.params))
    return {name: float(value) for name, value in metrics.items()}, gradient


def bin_means(x, grid):
    """Means of images in torch's adaptive bins, float64."""
    rows, columns = (soft.spans(n, m, 0) for n, m in zip(SIZE, grid))
    means = [[x[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows]
    return np.moveaxis(means, (0, 1), (1, 2))


def by_hand(y, rows=slice(None)):
    """name of the output -> (mean loss, its gradient by the output's weights) in float64, over some images."""
    found, y, x = {}, y[rows], images()[rows].astype(np.float64)
    for name, w in NETWORK.params.items():
        if name == "logits":
            means, targets, valid = x, oracle.one_hot(y, K), y < K
        else:
            grid = NETWORK.grid(name, SIZE)
            means = bin_means(x, grid)
            targets, valid = soft.by_hand(y, grid, HEADS[name][1].get("cell", 0))
        weight = (valid / max(1, valid.sum()))[..., None]
        log_p = oracle.log_softmax(means @ w.astype(np.float64))
        slope = weight * (np.exp(log_p) - targets)
        found[name] = -(weight * targets * log_p).sum(), np.einsum("bhwc,bhwk->ck", means, slope)
    return found


def test_a_network_brings_the_losses_of_its_heads():
    found = {term.on: term for term in terms()}
    assert found["logits"].weight == 0.6 and found["logits"].cell is None and found["logits"].resize
    for name in HEADS:
        assert found[name].name == f"main.{name}" and found[name].weight == pytest.approx(0.05)
        assert not found[name].resize and found[name].count_of_labels
    assert [found[name].cell for name in HEADS] == [16, 8, 4, 2, 0, 0, 0, 0]


def test_the_labels_leave_some_cells_valid_and_some_not():
    for name in HEADS:
        valid = soft.by_hand(labels(), NETWORK.grid(name, SIZE), HEADS[name][1].get("cell", 0))[1]
        assert 0 < valid.mean() < 1, name


@pytest.mark.parametrize("name", ["whole", "micro-batches", "micro-batches on 4 devices"])
def test_six_tenths_cross_entropy_and_four_tenths_the_mean_of_the_heads(name):
    metrics, gradient = run(name, labels())
    wanted, pseudo, real = by_hand(labels()), by_hand(labels(), slice(2, 4)), by_hand(labels(), slice(0, 2))

    def total(of):
        return 0.6 * of["logits"][0] + 0.4 * np.mean([of[name][0] for name in HEADS])

    for name in HEADS:
        assert metrics[f"main.{name}"] == pytest.approx(wanted[name][0], rel=1e-5), name
        np.testing.assert_allclose(gradient[name], 0.4 / 8 * wanted[name][1], atol=1e-6, err_msg=name)
    assert metrics["main"] == pytest.approx(wanted["logits"][0], rel=1e-5)
    assert metrics["loss"] == pytest.approx(total(wanted) + 0.1 * metrics["smooth"], rel=1e-5)
    assert metrics["loss/real"] == pytest.approx(total(real), rel=1e-5)
    assert metrics["loss/pseudo"] == pytest.approx(total(pseudo) + 0.1 * metrics["smooth"], rel=1e-5)


def test_only_ignored_cells():
    metrics, gradient = run("micro-batches", np.full((BATCH, *SIZE), 255, np.uint8))
    assert metrics["loss"] == 0 and not any(g.any() for g in gradient.values())


def large_comparisons(function, *args):
    """Number of operations with one bool for each pixel of the batch and class, or more."""
    return sum(np.prod(shape) >= BATCH * np.prod(SIZE) * K for shape in results(function, *args, dtype=bool))


@pytest.mark.parametrize("accumulate_steps", [1, 4])
def test_eight_heads_and_two_parts_compare_each_pixel_with_each_class_once(accumulate_steps):
    def count(some_terms):
        step, state = step_of(some_terms, accumulate_steps, ("real", "pseudo"))
        return large_comparisons(step, state, batch_of(labels()), {})

    logits, *heads = sorted(terms(parts=("real", "pseudo")), key=lambda term: term.name)
    assert logits.on == "logits" and len(heads) == 8
    assert count((logits, *heads)) - count((logits,)) == 1
    apart = [large_comparisons(functools.partial(own_value, term), labels()) for term in heads]
    assert apart == [1] * 8, "each alone looks at the pixels as well"


def own_value(term, y):
    return total_loss((term,), outputs(), {"labels": y}, epoch=FIRST_EPOCH)[0]


def outputs():
    return NETWORK.apply({"params": NETWORK.params}, images(), train=True, rngs={}, mutable=[])[0]


def test_counts_that_are_there_are_kept():
    def trace(y):
        targets = {"labels": y}
        first = with_cells(terms()[1:3], outputs(), targets)
        both = with_cells(terms(), outputs(), first)
        assert len(first["cells"]) == 2 and len(both["cells"]) == 8
        assert all(both["cells"][grid] is counts for grid, counts in first["cells"].items())
        assert with_cells(terms(), outputs(), both) is both and with_cells(terms()[:1], outputs(), targets) is targets

    jax.eval_shape(trace, labels())


def test_one_mean_over_the_cells_of_all_heads():
    """The alternative of LDN's released code: large maps weigh more."""
    value = count = 0
    for name in HEADS:
        targets, valid = soft.by_hand(labels(), NETWORK.grid(name, SIZE))
        means = bin_means(images().astype(np.float64), NETWORK.grid(name, SIZE))
        value -= (valid[..., None] * targets * oracle.log_softmax(means @ NETWORK.params[name])).sum()
        count += valid.sum()
    assert run("joined", labels())[0]["loss"] == pytest.approx(value / count, rel=1e-5)


WRONG = {
    "on='aux61' is not an output": ({"a": TermOptions(name="cross_entropy", on="aux61")}, {}, "Did you mean 'aux16'"),
    "'aux61' has no weight": (RECIPE, {"aux61": ("cross_entropy", {})}, "Did you mean 'aux16'"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_outputs_that_are_none(sentence):
    options, names, nearest = WRONG[sentence]
    with pytest.raises(UserError) as error:
        loss_terms(options, NETWORK.loss_weights, loss_names=names)
    assert sentence in str(error.value) and nearest in str(error.value)


def test_a_network_without_heads_has_no_mean_over_them():
    with pytest.raises(UserError, match="option aux may be off. Choose one of: heads, logits"):
        loss_terms({"a": TermOptions(name="cross_entropy", on="aux")}, {"logits": 1.0})


def test_a_joined_mean_of_any_loss():
    mean = lambda logits, y, *, epoch: Sum(logits.sum(), jnp.float32(logits.size))  # noqa: E731
    output = SegOutput(jnp.zeros((1, 4, 4, 1)), {"a": jnp.ones((1, 2, 2, 1)), "b": jnp.full((1, 4, 4, 1), 6.0)})
    term = LossTerm("all", mean, on="aux_joined", resize=False)
    value, _ = total_loss((term,), output, {"labels": jnp.zeros((1, 4, 4), jnp.int32)}, epoch=FIRST_EPOCH)
    assert float(value) == (4 * 1 + 16 * 6) / 20
