"""ResNet trunks against torchvision's ImageNet classifiers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.models.backbones.resnet import ResNet
from segjax.models.layers import BatchNorm, Conv
from tests.backbone_tools import Classifier
from tests.parity_tools import FIXTURES, check_eval, check_fixture, check_train, formula_variables


def resnet(depth, **options):
    return Classifier(partial(ResNet, depth), "fc", **options)


def heads(output):
    return {"features": output.features["features"], "logits": output.logits}


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("case", [0, 1])
def test_resnet_equals_torchvision(depth, case, parity):
    check_eval(resnet(depth), parity / f"resnet{depth}", case, 1e-5, heads=heads)


@pytest.mark.parametrize("depth", [18])  # 50 takes 14 s; its blocks are trained in deeplabv3plus_r50's test
def test_resnet_train_step_equals_torchvision(depth, parity):
    check_train(
        resnet(depth, dtype="float64"), parity / f"resnet{depth}", 2, outputs=1e-6, gradients=1e-6, loss=1e-6,
        x64=True, heads=heads,
    )  # fmt: skip


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_equals_the_stored_numbers(depth):
    check_fixture(resnet(depth), FIXTURES / f"parity_resnet{depth}.npz", 1e-5, heads=heads)


def shapes(depth=18, size=(65, 97), **options):
    trunk = ResNet(depth, partial(Conv), partial(BatchNorm), **options)
    maps, _ = jax.eval_shape(lambda x: trunk.init_with_output(jax.random.key(0), x), jnp.zeros((1, *size, 3)))
    return {stride: (x.shape[1:]) for stride, x in maps.items()}


def test_maps_come_finest_first_and_odd_sizes_round_up():
    expected = {4: (17, 25, 64), 8: (9, 13, 128), 16: (5, 7, 256), 32: (3, 4, 512)}
    assert list(shapes().items()) == list(expected.items())


@pytest.mark.parametrize("output_stride, channels", [(8, {4: 64, 8: 512}), (16, {4: 64, 8: 128, 16: 512})])
def test_output_stride_keeps_the_resolution(output_stride, channels):
    found = shapes(output_stride=output_stride, size=(64, 96))
    assert {stride: c for stride, (h, w, c) in found.items()} == channels
    assert all((h, w) == (64 // stride, 96 // stride) for stride, (h, w, _) in found.items())


@pytest.mark.parametrize("rule, third, fourth", [("torchvision", (1, 2), (2, 4)), ("all_blocks", (2, 2), (4, 4))])
def test_dilation_rules(rule, third, fourth):
    """networks.md: of the first and of the other blocks of layer3 and layer4 at output stride 8."""
    plan = ResNet(50, Conv, BatchNorm, output_stride=8, dilation_rule=rule)._plan()
    assert [(d[0], d[1]) for _, _, d in plan] == [(1, 1), (1, 1), third, fourth]
    assert [stride for stride, _, _ in plan] == [4, 8, 8, 8]


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_rule_equals_the_strided_trunk_where_that_samples(depth):
    """On maps of odd size stride 2 samples the even pixels, border included; dilation computes the others as well."""
    build = partial(ResNet, depth, partial(Conv), partial(BatchNorm), dilation_rule="torchvision")
    images = jax.random.normal(jax.random.key(0), (1, 33, 33, 3))  # maps of 9, 5, 3, 2
    variables = formula_variables(build())
    strided, dilated = (jax.jit(build(output_stride=s).apply)(variables, images) for s in (32, 8))
    np.testing.assert_allclose(dilated[8][:, ::4, ::4], strided[32], rtol=1e-4, atol=1e-6 * np.ptp(strided[32]))


def test_pool_without_padding_starts_its_windows_at_the_first_pixel():
    assert shapes(size=(769, 769), pool_padding=0, pool_ceil=True)[4][0] == 192
    assert shapes(size=(769, 769))[4][0] == 193


@pytest.mark.parametrize("options, value", [(dict(depth=42), "42"), (dict(output_stride=12), "12")])
def test_impossible_settings_are_named(options, value):
    with pytest.raises(UserError, match=value):
        shapes(**options)
