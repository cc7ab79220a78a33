"""BiSeNet: counts, sizes, and norms of one value per image; equality with the published is in test_parity_models.py."""

from functools import partial

import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.models.bisenet import AUTHORS, AttentionRefinement
from segjax.models.layers import BatchNorm, Conv
from tests.networks import count, traced


@pytest.mark.parametrize("name, parameters", [("bisenet_r18", 12_894_163), ("bisenet_r18_coincheung", 13_275_539)])
def test_published_number_of_parameters_without_auxiliary_heads(name, parameters):
    output, variables = traced(name, 19, aux=False)
    assert count(variables["params"]) == parameters
    assert not output.aux and "low.logits" in output.features


@pytest.mark.parametrize("name, low", [("bisenet_r18", (13, 19)), ("bisenet_r18_coincheung", (16, 20))])
def test_logits_at_an_eighth_are_there_for_the_speed_setting(name, low):
    """The second form pads 97 x 145 to a multiple of 32, as its twofold growth needs."""
    output, _ = traced(name, 19, size=(97, 145))
    assert output.features["low.logits"].shape == (1, *low, 19)
    assert all(head.shape == (1, 97, 145, 19) for head in (output.logits, *output.aux.values()))


@pytest.mark.parametrize("batch, updated", [(1, False), (2, True)])
def test_one_image_trains_with_running_statistics_in_the_attention(batch, updated):
    """Its own variance there is 0: the attention would not depend on the image."""
    norm = partial(BatchNorm, train=True)
    image_norm = norm if batch > 1 else partial(norm, train=False)
    arm = AttentionRefinement(AUTHORS, Conv, norm, image_norm)
    x = jax.random.normal(jax.random.key(0), (batch, 4, 5, 6))
    variables = jax.jit(arm.init)(jax.random.key(1), x)
    _, new = jax.jit(partial(arm.apply, mutable=["batch_stats"]))(variables, x)
    mean = {name: np.abs(leaves["mean"]).max() for name, leaves in new["batch_stats"].items() if "mean" in leaves}
    assert (mean["channel_attention.1.bn"] > 0) == updated
    assert np.abs(new["batch_stats"]["conv_3x3"]["bn"]["mean"]).max() > 0


def test_unknown_form_is_named():
    with pytest.raises(UserError, match="Did you mean 'coincheung'"):
        traced("bisenet_r18", form="coinchung")
