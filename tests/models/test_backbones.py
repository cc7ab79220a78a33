"""ResNet trunks against torchvision's ImageNet classifiers, and the plans of all trunks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.models.backbones.resnet import DEEP_STEM, ResNet, resnext50_32x4d, se_resnext50_32x4d
from segjax.models.backbones.resnet_caffe import CaffeResNet
from segjax.models.backbones.wide_resnet import WideResNet38
from segjax.models.layers import BatchNorm, Conv
from segjax.ops import textbook_convolutions
from tests.backbone_tools import Classifier
from tests.parity_tools import FIXTURES, check_eval, check_fixture, check_train, formula_variables

TRUNKS = {f"resnet{depth}": partial(ResNet, depth) for depth in (18, 50, 101)} | {"resnext50_32x4d": resnext50_32x4d}
by_trunk = pytest.mark.parametrize("name", TRUNKS)
slow = pytest.mark.slow


def classifier(name, **options):
    return Classifier(TRUNKS[name], "fc", **options)


def heads(output):
    return {"features": output.features["features"], "logits": output.logits}


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", *(pytest.param(n, marks=slow) for n in ("resnet101", "resnext50_32x4d"))]
)
@pytest.mark.parametrize("case", [0, 1])
def test_resnet_equals_torchvision(name, case, parity):
    check_eval(classifier(name), parity / name, case, 1e-5, heads=heads)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "resnet18" else slow) for n in TRUNKS])
def test_resnet_train_step_equals_torchvision(name, parity):
    check_train(
        classifier(name, dtype="float64"), parity / name, 2, outputs=1e-6, gradients=1e-6, loss=1e-6, x64=True,
        heads=heads,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name, outputs, gradients",
    [pytest.param("resnet101", 2e-4, 4e-2, marks=slow), pytest.param("resnext50_32x4d", 6e-5, 4e-3, marks=slow)],
)
def test_resnet_train_step_equals_torchvision_in_float32(name, outputs, gradients, parity):
    check_train(classifier(name), parity / name, 2, outputs=outputs, gradients=gradients, heads=heads)


@by_trunk
def test_resnet_equals_the_stored_numbers(name):
    check_fixture(classifier(name), FIXTURES / f"parity_{name}.npz", 1e-5, heads=heads)


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


def parameters(trunk):
    variables = jax.eval_shape(trunk.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(variables)), variables


@pytest.mark.parametrize(
    "trunk, count",
    [
        (partial(ResNet, 50), 23_508_032),
        (partial(ResNet, 101), 42_500_160),
        (partial(ResNet, 50, stem_names=DEEP_STEM), 23_631_808),
        (partial(ResNet, 101, stem_names=DEEP_STEM), 42_623_936),
        (resnext50_32x4d, 22_979_904),  # torchvision's 25,028,904 without fc
        (se_resnext50_32x4d, 9_536 + 231_216 + 1_330_304 + 7_815_552 + 16_124_288),
        (partial(CaffeResNet, 101), 42_500_160),
        (WideResNet38, 1_728 + 820_608 + 3_279_616 + 27_274_752 + 26_484_736 + 9_442_304 + 37_758_976),
    ],
)
def test_number_of_parameters_is_the_published_one(trunk, count):
    """networks.md 0, vplr.md 2.5."""
    assert parameters(trunk(conv=Conv, norm=BatchNorm))[0] == count


def test_groups_divide_the_kernel_of_the_3x3_convolution():
    _, tree = parameters(se_resnext50_32x4d(conv=Conv, norm=BatchNorm))
    assert tree["layer1.0"]["conv2"]["kernel"].shape == (3, 3, 4, 128)
    assert tree["layer4.2"]["conv2"]["kernel"].shape == (3, 3, 32, 1024)
    assert tree["layer4.2"]["se_module"]["fc1"]["kernel"].shape == (1, 1, 2048, 128)


def test_squeeze_and_groups_need_bottlenecks():
    for options in (dict(groups=32), dict(squeeze_excite=True)):
        with pytest.raises(UserError, match="ResNet-18 has no bottlenecks"):
            shapes(**options)


@pytest.mark.parametrize(
    "output_stride, strides, dilations",
    [(8, (2, 4, 8, 8, 8, 8), (1, 1, 1, 2, 4, 4)), (16, (2, 4, 8, 16, 16, 16), (1, 1, 1, 1, 2, 2))]
    + [(32, (2, 4, 8, 16, 32, 32), (1,) * 6)],
)
def test_wide_resnet_dilates_from_where_it_would_shrink_too_far(output_stride, strides, dilations):
    """vplr.md 2.2 for 8."""
    trunk = WideResNet38(Conv, BatchNorm, output_stride)
    plan = trunk._plan()
    assert tuple(stride for _, stride, _, _ in plan) == strides
    assert tuple(dilation for _, _, _, dilation in plan) == dilations
    maps, _ = jax.eval_shape(lambda x: trunk.init_with_output(jax.random.key(0), x), jnp.zeros((1, 65, 97, 3)))
    assert list(maps) == sorted(set(strides))
    for stride, x in maps.items():
        assert x.shape[1:3] == (-(-65 // stride), -(-97 // stride))
    assert maps[output_stride].shape[-1] == 4096


def test_wide_resnet_drops_whole_channels_in_training_only():
    trunk = partial(WideResNet38, Conv, BatchNorm, dropout=(0.3, 0.5))
    variables = jax.eval_shape(trunk().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    jax.eval_shape(trunk().apply, variables, x)
    apply = partial(trunk(train=True).apply, rngs={"dropout": jax.random.key(0)})
    program = str(jax.make_jaxpr(apply)(variables, x))
    for channels in (1024, 2048):  # what the last convolutions of mod6 and mod7 read
        assert f"shape=(2, 1, 1, {channels})" in program
    with pytest.raises(UserError, match="two rates"):
        jax.eval_shape(trunk(dropout=(0.3,)).apply, variables, x)


def test_caffe_trunk_strides_in_the_first_convolution_and_rounds_the_pooling_up():
    trunk = CaffeResNet(50, Conv, BatchNorm)
    maps, _ = jax.eval_shape(lambda x: trunk.init_with_output(jax.random.key(0), x), jnp.zeros((1, 321, 513, 3)))
    assert maps[8].shape == (1, 41, 65, 2048)
    assert maps[4].shape[1:3] == (81, 129)
    with textbook_convolutions():
        program = str(jax.make_jaxpr(lambda x: trunk.init(jax.random.key(0), x))(jnp.zeros((1, 65, 65, 3))))
    assert "rhs_dilation=(4, 4)" in program and "rhs_dilation=(2, 2)" in program
