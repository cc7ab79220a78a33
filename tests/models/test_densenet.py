"""DenseNet trunks against torchvision's ImageNet classifiers."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from segjax.errors import UserError
from segjax.models.backbones.densenet import DenseNet
from segjax.models.layers import BatchNorm, Conv
from tests.backbone_tools import Classifier
from tests.parity_tools import FIXTURES, check_eval, check_fixture, check_train

at_length = [121, *(pytest.param(n, marks=pytest.mark.slow) for n in (161, 169))]


def densenet(depth, **options):
    return Classifier(partial(DenseNet, depth, norm5=True), "classifier", **options)


def heads(output):
    return {"features": output.features["features"], "logits": output.logits}


@pytest.mark.slow
@pytest.mark.parametrize("depth", [121, 161, 169])
@pytest.mark.parametrize("case", [0, 1])
def test_densenet_equals_torchvision(depth, case, parity):
    check_eval(densenet(depth), parity / f"densenet{depth}", case, 1e-5, heads=heads)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [121, 161, 169])
def test_densenet_train_step_equals_torchvision(depth, parity):
    check_train(
        densenet(depth, dtype="float64"), parity / f"densenet{depth}", 2, outputs=1e-6, gradients=1e-6, loss=1e-6,
        x64=True, heads=heads,
    )  # fmt: skip


@pytest.mark.parametrize("depth", at_length)
def test_densenet_equals_the_stored_numbers(depth):
    check_fixture(densenet(depth), FIXTURES / f"parity_densenet{depth}.npz", 1e-5, heads=heads)


def shapes(depth=121, size=(65, 97), **options):
    trunk = DenseNet(depth, partial(Conv), partial(BatchNorm), **options)
    maps, _ = jax.eval_shape(lambda x: trunk.init_with_output(jax.random.key(0), x), jnp.zeros((1, *size, 3)))
    return {stride: (x.shape[1:]) for stride, x in maps.items()}


@pytest.mark.parametrize("norm5", [False, True])
def test_maps_come_finest_first_and_odd_sizes_round_as_published(norm5):
    expected = {4: (17, 25, 256), 8: (8, 12, 512), 16: (4, 6, 1024), 32: (2, 3, 1024)}
    assert list(shapes(norm5=norm5).items()) == list(expected.items())


@pytest.mark.parametrize("output_stride, channels", [(8, {4: 256, 8: 1024}), (16, {4: 256, 8: 512, 16: 1024})])
def test_output_stride_keeps_the_resolution(output_stride, channels):
    found = shapes(output_stride=output_stride, size=(64, 96))
    assert found == {stride: (64 // stride, 96 // stride, c) for stride, c in channels.items()}


THIN = dict(growth=4, blocks=(2, 3, 2, 2))


def test_splits_halve_a_block_and_add_a_map():
    """Of three layers one runs before the mean; the stem's map comes before the pooling, which has no padding."""
    found = shapes(size=(130, 128), splits=(2, 3), stem_pool=2, stem_map=True, **THIN)
    assert found == {
        2: (65, 64, 8), 4: (32, 32, 16), 8: (16, 16, 12), 16: (8, 8, 20), 32: (4, 4, 14), 64: (2, 2, 18),
        128: (1, 1, 17),
    }  # fmt: skip


def test_a_stem_of_stride_1_doubles_every_map():
    found = shapes(size=(64, 96), stem_stride=1, stem_pool=2, stem_map=True, **THIN)
    assert {stride: found[stride][:2] for stride in found} == {n: (64 // n, 96 // n) for n in (1, 2, 4, 8, 16)}


def test_dropout_follows_each_layer_in_training_only():
    images = jnp.zeros((1, 64, 64, 3))

    def draws(train):
        trunk = DenseNet(121, partial(Conv), partial(BatchNorm), layer_dropout=0.2, train=train, **THIN)
        variables = jax.eval_shape(trunk.init, jax.random.key(0), images)
        rngs = {"dropout": jax.random.key(1)}
        return str(jax.make_jaxpr(partial(trunk.apply, rngs=rngs))(variables, images)).count(" random_bits[")

    assert draws(True) == 9 and draws(False) == 0


@pytest.mark.parametrize(
    "options, value",
    [
        (dict(depth=42), "42"),
        (dict(output_stride=12), "12"),
        (dict(splits=(5,)), r"splits=\(5,\) are not possible"),
        (dict(splits=(3,), output_stride=16), "output_stride=32"),
        (dict(blocks=(1, 2, 3)), "four numbers"),
    ],
)
def test_impossible_settings_are_named(options, value):
    with pytest.raises(UserError, match=value):
        shapes(**options)
