"""SwiftNet: trunks, scales and sizes; equality with the published networks is in test_parity_models.py."""

import jax
import numpy as np
import pytest

from segjax import weights
from segjax.errors import UserError
from segjax.models.swiftnet import TRUNKS, SwiftNetPyramid
from segjax.weights import names
from tests import networks
from tests.networks import count, traced


def shapes(name, size=(64, 96), **options):
    """Shapes of the variables and of the output."""
    output, variables = traced(name, 19, size=size, **options)
    return variables["params"], output


def test_parameters_of_the_parts():
    params, _ = shapes("swiftnet_r18")
    parts = {"backbone.spp": 116_476, "backbone.upsample": 501_376, "logits": 2_707}
    for part, expected in parts.items():
        assert count({k: v for k, v in params.items() if k.startswith(part)}) == expected
    assert count(params["backbone"]) == 11_176_512


@networks.every(networks.lightest(TRUNKS), sorted(TRUNKS), "trunk")
def test_every_trunk_fits(trunk):
    params, output = shapes("swiftnet_r18", (65, 97), trunk=trunk, features=96)
    assert output.logits.shape == (1, 65, 97, 19)
    assert output.features["up2"].shape == (1, 17, 25, 96)
    assert "backbone" in params


@pytest.mark.parametrize("scales, units", [(1, 3), (2, 4), (3, 5), (4, 6)])
def test_scales_of_the_pyramid(scales, units):
    """Each scale adds norms, not convolutions, and a rung to the ladder."""
    params, output = shapes("swiftnet_r18_pyramid", (128, 192), scales=scales)
    assert {name for name in params["backbone"] if name.startswith("bn1")} == {f"bn1.{i}" for i in range(scales)}
    assert sum("upsample_blends" in name for name in params) == units
    assert output.features[f"upb{units - 1}"].shape == (1, 32, 48, 128)


def test_sizes_that_fit_are_not_padded():
    """Multiples of 4, and 127 and 191 of the stored case; everything else becomes a multiple of 4."""
    network = SwiftNetPyramid(19)
    assert all(network._fits(n) for n in range(4, 400, 4))
    assert network._fits(127) and network._fits(191)
    assert not network._fits(97) and not network._fits(3)
    for size in ((97, 145), (3, 66)):
        assert shapes("swiftnet_r18_pyramid", size)[1].logits.shape == (1, *size, 19)


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("swiftnet_r18", dict(trunk="resnet50"), "trunk='resnet50' does not exist"),
        ("swiftnet_r18_pyramid", dict(depth=50), "depth 18 or 34"),
        ("swiftnet_r18_pyramid", dict(scales=0), "scales=0"),
    ],
)
def test_impossible_settings_are_named(name, options, text):
    with pytest.raises(UserError, match=text):
        shapes(name, **options)


def test_imagenet_weights_fill_the_trunk_and_nothing_else():
    """Decoder and trunk share the prefix `backbone`; the classifier's file must fill the trunk only."""
    variables = networks.shapes("swiftnet_efficientnet_lite0")
    ones = networks.full(variables, 1)
    trunk = {collection: {"backbone": tree["backbone"]} for collection, tree in ones.items()}
    file = {name.removeprefix("backbone."): value for name, value in names.to_state_dict(trunk).items()}
    file["_fc.weight"] = np.ones((1000, 1280), np.float32)
    loaded, report = weights.load(file, networks.full(variables, 0), source="efficientnet_lite")
    assert set(report.matched) == set(names.leaves(trunk))
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(loaded["params"]["backbone"]))
    assert not np.any(loaded["params"]["logits.conv"]["kernel"])
