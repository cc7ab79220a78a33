"""DeepLabV2, DeepLabV3, PSPNet and FCN: counts, forms, sizes; equality with the originals: test_parity_models.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models
from segjax.errors import UserError
from segjax.models import deeplabv2
from segjax.models.backbones.resnet import BLOCKS
from segjax.models.layers import BatchNorm, Conv
from segjax.models.pspnet import BINS, FORMS, PyramidPooling
from segjax.ops import textbook_convolutions
from tests.networks import count, traced


def shapes(name, size=(64, 96), batch=1, classes=21, **options):
    """Shapes of the parameters and of the output."""
    output, variables = traced(name, classes, size=size, batch=batch, **options)
    return variables["params"], output


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("fcn_r50", {}, 35_322_218),  # torchvision's table
        ("fcn_r101", {}, 54_314_346),
        ("deeplabv3_r50", {}, 42_004_074),
        ("deeplabv3_r101", {}, 60_996_202),
        ("deeplabv3_r50", dict(form="encoding"), 42_127_850),
        ("deeplabv3_r101", dict(form="encoding"), 61_119_978),
        ("deeplabv2_r101", {}, 44_048_532),
        ("deeplabv2_r101", dict(scales=()), 44_048_532),
        ("pspnet_r101", dict(classes=19), 68_072_166),
        ("pspnet_r101", dict(classes=19, aux=False), 65_707_475),
        ("pspnet_r101", dict(classes=19, form="encoding"), 68_072_166),
    ],
)
def test_number_of_parameters_is_the_published_one(name, options, expected):
    """networks.md 8, 10, 11."""
    params, _ = shapes(name, **options)
    assert count(params) == expected


@pytest.mark.parametrize("form", ["semseg", "encoding"])
@pytest.mark.parametrize("size", [(33, 41), (64, 71), (1, 2)])
def test_pspnet_takes_any_size(form, size):
    _, output = shapes("pspnet_r50", size, 2, form=form)
    assert output.logits.shape == output.aux["aux"].shape == (2, *size, 21)
    grown = tuple(n if form == "encoding" else n + -(n - 1) % 8 for n in size)
    assert output.features["layer4"].shape[1:3] == tuple(-(-n // 8) for n in grown)


def test_forms_of_pspnet_differ_in_names_and_dilation():
    semseg, _ = shapes("pspnet_r50")
    encoding, _ = shapes("pspnet_r50", form="encoding")
    assert {"ppm", "cls.4", "aux", "layer0.6", "layer1.0"} <= set(semseg)
    assert set(encoding) == {"pretrained", "head.conv5.0", "head.conv5.1", "head.conv5.2", "head.conv5.5",
                             "auxlayer.conv5"}  # fmt: skip
    program = {}
    for form in FORMS:
        module = models.create("pspnet_r50", 2, form=form)
        with textbook_convolutions():
            program[form] = str(jax.make_jaxpr(module.init)(jax.random.key(0), jnp.zeros((1, 65, 65, 3))))
    # of the 3x3 convolutions of layer3 and layer4; by torchvision's rule the first of each has the dilation before it
    three, four = BLOCKS[50][2:]
    assert program["semseg"].count("rhs_dilation=(4, 4)") == four
    assert program["semseg"].count("rhs_dilation=(2, 2)") == three
    assert program["encoding"].count("rhs_dilation=(4, 4)") == four - 1
    assert program["encoding"].count("rhs_dilation=(2, 2)") == three


def test_one_image_trains_with_running_statistics_where_a_pyramid_level_has_one_value():
    x = jax.random.normal(jax.random.key(0), (1, 7, 9, 8))
    pool = PyramidPooling(FORMS["semseg"].levels, Conv, lambda **kw: BatchNorm(**{"train": True, **kw}))
    variables = jax.jit(pool.init)(jax.random.key(1), x)
    y, new = jax.jit(partial(pool.apply, mutable=["batch_stats"]))(variables, x)
    assert y.shape == (1, 7, 9, 16)
    np.testing.assert_array_equal(y[..., :8], x)
    moved = [float(jnp.abs(new["batch_stats"][f"features.{i}.2"]["mean"]).max()) > 0 for i in range(len(BINS))]
    assert moved == [False, True, True, True]


@pytest.mark.parametrize("name, weight", [("deeplabv3_r50", (0.5, 0.2)), ("pspnet_r50", (0.4, 0.2))])
def test_auxiliary_weights_follow_the_form(name, weight):
    forms = {"deeplabv3_r50": ("torchvision", "encoding"), "pspnet_r50": ("semseg", "encoding")}[name]
    for form, expected in zip(forms, weight):
        assert models.create(name, 5, form=form).loss_weights == {"logits": 1.0, "aux": expected}
    assert models.create(name, 5, aux=False).loss_weights == {"logits": 1.0}


def test_deeplabv2_has_a_head_for_each_scale():
    _, output = shapes("deeplabv2_r101", (65, 81), depth=50)
    assert output.logits.shape == (1, 65, 81, 21)
    assert {k: v.shape[1:3] for k, v in output.aux.items()} == {
        "logits100": (9, 11), "logits050": (5, 6), "logits075": (7, 8),
    }  # fmt: skip
    assert set(models.create("deeplabv2_r101", 5).loss_weights) == {"logits", *output.aux}
    _, single = shapes("deeplabv2_r101", (65, 81), depth=50, scales=())
    assert not single.aux and single.logits.shape == (1, 65, 81, 21)
    assert models.create("deeplabv2_r101", 5, scales=()).loss_weights == {"logits": 1.0}


def test_deeplabv2_turns_the_colours_around_for_weights_of_caffe(monkeypatch):
    seen = []
    monkeypatch.setattr(deeplabv2.CaffeResNet, "stages", lambda _, x: seen.append(x) or {"layer5": x})
    image = jnp.arange(48.0).reshape(1, 4, 4, 3)
    for bgr in (False, True):
        models.create("deeplabv2_r101", 5, scales=(), bgr=bgr).init(jax.random.key(0), image)
    np.testing.assert_array_equal(seen[0], image)
    np.testing.assert_array_equal(seen[1], image[..., ::-1])


def test_deeplabv2_of_domain_adaptation_has_two_branches():
    params, _ = shapes("deeplabv2_r101", depth=50, scales=(), rates=(6, 12))
    assert set(params["base"]["aspp"]) == {"c0", "c1"}


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_normalises_with_and_keeps_the_running_statistics(frozen):
    """Seen in the program: BatchNorm of a batch has another custom gradient, `batch_norm`."""
    module = models.create("deeplabv2_r101", 3, depth=50, frozen_bn=frozen, scales=())
    variables = traced("deeplabv2_r101", 3, depth=50, scales=())[1]
    x = jax.ShapeDtypeStruct((2, 33, 33, 3), jnp.float32)

    def statistics(variables, x):
        return module.apply(variables, x, train=True, mutable=["batch_stats"])[1]["batch_stats"]

    closed = jax.make_jaxpr(statistics)(variables, x).jaxpr
    unchanged = [out in closed.invars for out in closed.outvars]
    assert all(unchanged) if frozen else not any(unchanged)


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("pspnet_r50", dict(form="smseg"), "Did you mean 'semseg'"),
        ("deeplabv3_r50", dict(form="torch"), "form='torch' of DeepLabV3"),
        ("deeplabv3_r50", dict(output_stride=32), "output_stride=32.*8 or 16"),
        ("fcn_r50", dict(depth=42), "depth 42"),
        ("deeplabv2_r101", dict(scales=(1.0, 0.5)), "those beside 1"),
        ("deeplabv2_r101", dict(scales=(0.0,)), "between 0 and 4"),
        ("deeplabv2_r101", dict(rates=()), "without a pyramid"),
    ],
)
def test_impossible_settings_are_named(name, options, text):
    with pytest.raises(UserError, match=text):
        shapes(name, **options)
