"""EfficientNet-Lite with its real ImageNet weights against stored outputs of the PyTorch port."""

from functools import cache, partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import weights
from segjax.errors import UserError
from segjax.models.backbones.efficientnet_lite import BN_EPS, EfficientNetLite, scaled_width, stages
from segjax.models.backbones.mobilenet_v2 import MobileNetV2
from segjax.models.layers import BatchNorm, Conv
from tests.backbone_tools import Classifier
from tests.parity_tools import FIXTURES, formula_input, formula_variables


def classifier(variant, **options):
    return Classifier(
        partial(EfficientNetLite, variant, head=True, design_size=(224, 240, 260)[variant], **options),
        "_fc",
        eps=BN_EPS,
    )


def abstract(module):
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 33, 33, 3)))


def pretrained(variant):
    try:
        return weights.pretrained(f"efficientnet_lite{variant}")
    except UserError as error:
        pytest.skip(str(error))


@cache
def computed(variant, image=None):
    """What is stored of the outputs for the formula's input, or for the image of a path: some kilobytes."""
    images = formula_input((1, 3, 97, 145))
    if image:
        images = (cv2.imread(image)[None, ..., ::-1].astype(np.float32) - 127) / 128
    module = classifier(variant)
    variables, report = weights.load(pretrained(variant), abstract(module))
    assert not report.missing and not report.unexpected and not report.replaced
    output = jax.jit(module.apply)(variables, images)
    features = np.asarray(output.features["features"]).transpose(0, 3, 1, 2)
    return {
        "features_shape": np.array(features.shape),
        "logits": np.asarray(output.logits),
        "features_tl": features[:, :64].copy(),
        "features_chmean": features.mean((2, 3)),
        "features_chstd": features.std((2, 3)),
    }


def assert_equal(ours, stored):
    assert tuple(ours["features_shape"]) == tuple(stored["features_shape"])
    top = stored["features_tl"].shape[2:]
    ours = ours | {"features_tl": ours["features_tl"][..., : top[0], : top[1]]}
    for name in ("logits", "features_tl", "features_chmean", "features_chstd"):
        value = ours[name]
        error = np.abs(value - stored[name]).max() / np.abs(stored[name]).max()
        assert error <= 1e-5, f"{name}: {error:.1e}"


def test_lite0_equals_the_stored_numbers():
    assert_equal(computed(0), np.load(FIXTURES / "parity_efficientnet_lite0.npz"))


@pytest.mark.parametrize("variant, case", [(variant, case) for case in ("noise", "camvid") for variant in (0, 1, 2)])
def test_equals_the_port(variant, case, parity, camvid):
    image = [str(camvid / "val" / "0016E5_07959.webp")] if case == "camvid" else []
    assert_equal(computed(variant, *image), np.load(parity / "efficientnet_lite" / f"lite{variant}_{case}.npz"))


def maps(variant, size, **options):
    trunk = EfficientNetLite(variant, partial(Conv), partial(BatchNorm), **options)
    found, _ = jax.eval_shape(lambda x: trunk.init_with_output(jax.random.key(0), x), jnp.zeros((1, *size, 3)))
    return {stride: x.shape[1:] for stride, x in found.items()}


def test_maps_come_finest_first_and_odd_sizes_round_up():
    expected = {2: (49, 73, 16), 4: (25, 37, 24), 8: (13, 19, 40), 16: (7, 10, 112), 32: (4, 5, 320)}
    assert list(maps(0, (97, 145)).items()) == list(expected.items())


@pytest.mark.parametrize("output_stride", [8, 16])
def test_output_stride_keeps_the_resolution(output_stride):
    found = maps(0, (97, 145), output_stride=output_stride)
    assert max(found) == output_stride
    assert found[output_stride] == (-(-97 // output_stride), -(-145 // output_stride), 320)


@pytest.mark.parametrize(
    "trunk, widths", [(partial(EfficientNetLite, 2), (16, 24, 48, 120, 352)), (MobileNetV2, (16, 24, 32, 96, 320))]
)
def test_light_trunks_have_the_stages_of_a_resnet(trunk, widths):
    """What decoders for ResNets ask for: layer3 feeds auxiliary heads also where it is as fine as layer4."""
    module = trunk(conv=partial(Conv), norm=partial(BatchNorm), output_stride=8)
    images = jnp.zeros((1, 64, 96, 3))
    found, _ = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, method="stages"), images)
    sizes = ((32, 48), (16, 24), *((8, 12),) * 3)
    assert {name: x.shape[1:] for name, x in found.items()} == {
        f"layer{i}": (*size, width) for i, (size, width) in enumerate(zip(sizes, widths))
    }


def test_the_trunk_keeps_the_eps_of_its_weights_whatever_the_decoder_has():
    def seen(**options):
        eps = []
        norm = lambda eps_, **kin: eps.append(eps_) or BatchNorm(eps=eps_, **kin)  # noqa: E731
        trunk = EfficientNetLite(0, partial(Conv), lambda eps=1e-5, **kin: norm(eps, **kin), **options)
        jax.eval_shape(trunk.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        return set(eps)

    assert seen(head=True) == {BN_EPS} and seen(bn_eps=1e-5) == {1e-5}


def test_dilated_trunk_equals_the_strided_one_where_that_samples():
    """On a map of odd size (5 here) stride 2 samples the even pixels, border included."""
    build = partial(EfficientNetLite, 0, partial(Conv), partial(BatchNorm))
    images = jax.random.normal(jax.random.key(0), (1, 80, 80, 3))
    variables = formula_variables(build())
    strided, dilated = (jax.jit(build(output_stride=s).apply)(variables, images) for s in (32, 16))
    np.testing.assert_allclose(dilated[16][:, ::2, ::2], strided[32], rtol=1e-4, atol=1e-6 * np.ptp(strided[32]))


def test_scaling_follows_the_published_table():
    assert [scaled_width(w, 1.1) for w in (16, 24, 40, 80, 112, 192, 320)] == [16, 24, 48, 88, 120, 208, 352]
    assert [s[0] for s in stages(2)] == [1, 3, 3, 4, 4, 5, 1]  # first and last stage are not deepened
    with pytest.raises(UserError, match="Lite7"):
        stages(7)


def test_number_of_parameters_is_the_published_one():
    for variant, count in enumerate((4652008, 5416680, 6092072)):
        params = abstract(classifier(variant))["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
