"""DeepLabV3+: options, sizes and the image pool; equality with VPLR's network is in test_parity_models.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

from segjax import models
from segjax.errors import UserError
from segjax.models.deeplabv3plus import ASPP, TRUNKS
from segjax.models.layers import BatchNorm, Conv, kaiming_fan_in
from segjax.ops import textbook_convolutions
from tests import networks
from tests.networks import count

LITE, R18, R50 = "deeplabv3plus_efficientnet_lite0", "deeplabv3plus_r18", "deeplabv3plus_r50"
LIGHT = dict(output_stride=32, aspp_channels=16, skip_channels=8, decoder_channels=16)


def traced(name, size=(64, 96), **options):
    """Shapes of the output and of the variables."""
    return networks.traced(name, 7, size=size, **options)


def test_number_of_parameters_is_the_published_one():
    variables = networks.shapes(R50, 19)
    assert count(variables["params"]) == 40_351_040  # networks.md; its trunk is ResNet-50 without the classifier
    assert count(variables["batch_stats"]) == 56_704


def test_the_decoder_of_wide_resnet_works_at_half_the_size_of_the_image():
    output, variables = traced("deeplabv3plus_wrn38", output_stride=8)
    assert variables["params"]["bot_fine"]["kernel"].shape == (1, 1, 128, 48)
    assert output.features["stride2"].shape == (1, 32, 48, 128)
    assert "convs.dropout" not in str(jax.tree.structure(variables))


def test_r18_shares_the_head_with_r50():
    """Same names and, but for what depends on the width of the trunk, the same shapes."""
    (_, small), (_, large) = traced(R18), traced(R50)
    heads = [
        {k: jax.tree.map(jnp.shape, v) for k, v in tree["params"].items() if not k.startswith("layer")}
        for tree in (small, large)
    ]
    same = {"bot_aspp", "final.0", "final.1", "final.3", "final.4", "final.6"}
    assert heads[0].keys() == heads[1].keys() == same | {"aspp", "bot_fine"}
    assert all(heads[0][name] == heads[1][name] for name in same)
    trunk = [k for k in small["params"] if k.startswith("layer")]
    assert sum(count(small["params"][k]) for k in trunk) == 11_176_512  # conv part of ResNet-18


@pytest.mark.parametrize("name", [LITE, R18])
@pytest.mark.parametrize(
    "output_stride, size",
    [(8, (64, 96)), (8, (33, 41)), (16, (97, 145)), (32, (33, 41))]
    + [
        pytest.param(*row, marks=pytest.mark.slow)
        for row in ((8, (97, 145)), (16, (64, 96)), (16, (33, 41)), (32, (64, 96)), (32, (97, 145)))
    ],
)
def test_logits_have_the_size_of_the_image(name, output_stride, size):
    output, _ = traced(name, size, batch=2, output_stride=output_stride)
    assert output.logits.shape == (2, *size, 7) and output.logits.dtype == jnp.float32
    expected = tuple(-(-n // output_stride) for n in size)
    assert output.features[f"stride{output_stride}"].shape[1:3] == expected


def test_rates_follow_the_output_stride():
    for output_stride, rates in ((8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))):
        with textbook_convolutions():  # of a map of 4 x 4 the others keep the centre tap only
            text = str(
                jax.make_jaxpr(
                    lambda x, s=output_stride: models.create(R18, 7, output_stride=s).init(jax.random.key(0), x)
                )(jnp.zeros((1, 64, 64, 3)))
            )
        for rate in rates:
            assert f"rhs_dilation=({rate}, {rate})" in text


def test_ladder_and_separable_options():
    output, variables = traced(LITE, **LIGHT, skip_strides=(16, 8, 4))
    params = variables["params"]
    assert params["ladder.16.skip"]["kernel"].shape == (1, 1, 112, 8)
    assert params["ladder.8.0"]["kernel"].shape == (3, 3, 24, 16)
    assert params["bot_fine"]["kernel"].shape == (1, 1, 24, 8)
    assert output.features["aspp_bot"].shape == (1, 2, 3, 16)
    _, thin = traced(LITE, **LIGHT, separable=True)
    assert thin["params"]["final.0"]["depthwise"]["kernel"].shape == (3, 3, 1, 24)
    assert thin["params"]["final.0"]["pointwise"]["kernel"].shape == (1, 1, 24, 16)


@networks.every(networks.lightest(TRUNKS), sorted(TRUNKS), "trunk")
def test_every_trunk_fits(trunk):
    output, variables = traced(R50, trunk=trunk, output_stride=16)
    assert output.logits.shape == (1, 64, 96, 7)
    stems = {
        "dens": "features.conv0",
        "effi": "backbone",
        "mobi": "backbone",
        "se_r": "layer0.conv1",
        "wide": "mod1.conv1",
    }
    prefix = stems.get(trunk[:4], "layer0.0")
    assert prefix in variables["params"]


@pytest.mark.parametrize(
    "options, text",
    [
        (dict(trunk="resnet51"), "Did you mean 'resnet50'"),
        (dict(output_stride=4), "output_stride=4"),
        (dict(skip_strides=(4, 8)), "coarse to fine"),
        (dict(skip_strides=()), "coarse to fine"),
        (dict(skip_strides=(8, 4)), "no map of stride 8"),
        (dict(skip_strides=(2,)), "no map of stride 2"),
        (dict(trunk_dropout=(0.3, 0.5)), "resnet18 has no dropout"),
    ],
)
def test_impossible_settings_are_named(options, text):
    with pytest.raises(UserError, match=text):
        traced(R18, **options)


@pytest.mark.parametrize("batch, updated", [(1, False), (2, True)])
def test_one_image_trains_with_running_statistics_in_the_image_pool(batch, updated):
    """Its own variance there is 0: the branch would be its bias, whatever the image."""
    conv = partial(Conv, kernel_init=kaiming_fan_in)
    aspp = ASPP(4, (2, 3), conv, partial(conv, kernel_size=3), partial(BatchNorm, train=True))
    x = jax.random.normal(jax.random.key(0), (batch, 5, 7, 6))
    variables = jax.jit(aspp.init)(jax.random.key(1), x)

    def loss(params):
        y, new = aspp.apply(variables | {"params": params}, x, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y)), new["batch_stats"]

    (_, stats), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(grads))
    before = variables["batch_stats"]
    assert (np.abs(stats["img_conv.1"]["mean"] - before["img_conv.1"]["mean"]).max() > 0) == updated
    for i in range(3):
        assert np.all(stats[f"features.{i}.1"]["mean"] != before[f"features.{i}.1"]["mean"])


def test_dropout_acts_in_training_only():
    module = models.create(R18, 5, dropout=0.5)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = networks.shapes(R18)
    train = partial(module.apply, train=True, mutable=["batch_stats"])
    jax.eval_shape(module.apply, variables, x)
    jax.eval_shape(lambda v, x: train(v, x, rngs={"dropout": jax.random.key(0)}), variables, x)
    with pytest.raises(InvalidRngError, match="dropout"):
        jax.eval_shape(train, variables, x)
