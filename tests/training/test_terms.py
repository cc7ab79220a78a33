"""The terms of a loss: which heads of a network they look at, by which name and weight."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax import losses
from segjax.errors import UserError
from segjax.training.terms import LossTerm, TermOptions, batch_counts, loss_terms, total_loss
from segjax.typing import SegOutput, Sum

FIRST_EPOCH = jnp.zeros((), jnp.int32)


def test_total_loss_weighs_terms_and_heads():
    targets = {"labels": jnp.zeros((1, 4, 4), jnp.int32)}
    output = SegOutput(
        jnp.full((1, 4, 4, 2), 1.0), aux={"a": jnp.full((1, 2, 2, 2), 3.0), "b": jnp.full((1, 4, 4, 2), 5.0)}
    )
    mean = lambda logits, y, *, epoch: Sum(logits.sum(), jnp.float32(logits.size))  # noqa: E731
    terms = (LossTerm("main", mean), LossTerm("all", mean, 0.5, on="aux"), LossTerm("one", mean, 2.0, on="b"))
    loss, means = total_loss(terms, output, targets, epoch=FIRST_EPOCH)
    assert {name: float(value) for name, value in means.items()} == {"main": 1.0, "all": 4.0, "one": 5.0}
    assert float(loss) == 1.0 + 0.5 * 4.0 + 2.0 * 5.0
    with pytest.raises(UserError, match="has the outputs logits, a, b"):
        total_loss((LossTerm("x", mean, on="c"),), output, targets, epoch=FIRST_EPOCH)


def test_a_term_is_called_and_weighed_as_the_recipe_and_the_network_have_it():
    options = {
        "main": TermOptions(name="cross_entropy", weight=2.0),
        "edge": TermOptions(name="relaxed_cross_entropy", on="aux", weight=0.5, align_corners=True),
    }
    presence = {"se": ("presence_cross_entropy", {})}  # as EncNet has it
    found = loss_terms(options, {"logits": 1.0, "aux": 0.4, "se": 0.2}, loss_names=presence)
    assert [(term.name, term.on, term.weight) for term in found] == [
        ("edge", "aux", 0.5), ("main", "logits", 2.0), ("main.aux", "aux", 0.8), ("main.se", "se", 0.4)
    ]  # fmt: skip
    assert [term.align_corners for term in found] == [True, False, False, False]
    assert [term.resize for term in found] == [True, True, True, False]  # one number per class is no map


def test_a_loss_gets_its_options_the_labels_and_the_epoch_if_it_has_one():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 6, 6, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, (2, 6, 6)))
    weights = (0.2, 1.0, 3.0)
    (term,) = loss_terms({"main": TermOptions(name="cross_entropy", options={"class_weights": weights})}, {"logits": 1})
    found = term.function(logits, {"labels": labels, "other": None}, epoch=FIRST_EPOCH)
    wanted = losses.cross_entropy(logits, labels, class_weights=weights)
    assert float(found.value) == float(wanted.value) and float(found.count) == float(wanted.count)
    options = {"off_epoch": 1}
    (term,) = loss_terms({"main": TermOptions(name="relaxed_cross_entropy", options=options)}, {"logits": 1})
    values = [float(term.function(logits, {"labels": labels}, epoch=jnp.int32(epoch)).value) for epoch in (1, 2)]
    assert values[0] != values[1]
    for epoch, value in enumerate(values, start=1):
        wanted = losses.relaxed_cross_entropy(logits, labels, epoch=jnp.int32(epoch), **options)
        assert value == float(wanted.value)


def test_counts_of_a_batch_are_those_of_its_parts():
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 3, (4, 2, 6, 6))).at[:, :, 0].set(255)
    terms = loss_terms(
        {"a": TermOptions(name="cross_entropy"), "hard": TermOptions(name="ohem_cross_entropy")}, {"logits": 1.0}
    )
    output = SegOutput(jnp.zeros((2, 6, 6, 3)))
    counts = batch_counts(terms, output, {"labels": labels}, epoch=FIRST_EPOCH)
    assert {name: np.asarray(value).tolist() for name, value in counts.items()} == {"a": [4 * 2 * 5 * 6]}
