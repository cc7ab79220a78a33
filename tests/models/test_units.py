"""Units of trunks by the names of their leaves; without these leaves a unit passes on what enters it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models, weights
from segjax.errors import UserError
from segjax.models.backbones.densenet import DenseNet
from segjax.models.backbones.efficientnet_lite import MBConv
from segjax.models.backbones.mobilenet_v2 import InvertedResidual
from segjax.models.backbones.resnet import BasicBlock, Bottleneck
from segjax.models.layers import BatchNorm, Conv, relu
from segjax.models.units import UnitNames, tail, trunk_units
from segjax.stages.disable_tail import without

IMAGES = jnp.zeros((1, 64, 64, 3))


def sizes_of(module):
    return weights.sizes({"params": jax.eval_shape(module.init, jax.random.key(0), IMAGES)["params"]})


def counts(blocks):
    return {name: len(units) for name, units in blocks.items()}


def test_units_of_networks():
    dense = DenseNet(121, Conv, BatchNorm)
    found = trunk_units(dense, sizes_of(dense))
    assert counts(found) == {"1": 6, "2": 12, "3": 24, "4": 16}
    last = tail(found)
    assert len(last) == 40 and last[0].name == "features.denseblock3.denselayer1"
    assert last[-1] == ("features.denseblock4.denselayer16", ("features.denseblock4.denselayer16.conv2.weight",))
    ladder = models.create("swiftnet_r18", 5)
    found = trunk_units(ladder, sizes_of(ladder))
    assert counts(found) == {"1": 2, "2": 2, "3": 2, "4": 2}
    assert tail(found)[-1] == ("backbone.layer4.1", ("backbone.layer4.1.bn2.bias", "backbone.layer4.1.bn2.weight"))


def test_units_without_a_number_of_their_block():
    """The last block of EfficientNet has one unit without shortcut, so the last two are those before it."""
    names = {}
    for index, width in enumerate((16, 24, 24, 40, 40, 40, 320)):
        for leaf in ("_project_conv.weight", "_bn2.weight", "_bn2.bias"):
            names[f"backbone._blocks.{index}.{leaf}"] = width if "bn" in leaf else 9 * width
    found = trunk_units(object(), names)
    assert [unit.name for unit in tail(found)] == [f"backbone._blocks.{index}" for index in (2, 4, 5)]


def test_a_network_names_its_own_units():
    class Own:
        unit_names = (UnitNames("own", r"stage(?P<block>\d+)_(?P<unit>\d+)", r"out\."),)

    found = trunk_units(Own(), {"stage1_2.out.kernel": 3, "stage1_10.out.kernel": 3, "stage1_10.other.kernel": 3})
    assert found == {"1": [("stage1_2", ("stage1_2.out.kernel",)), ("stage1_10", ("stage1_10.out.kernel",))]}
    for network in ("fastscnn", "hrnet_w18_ocr"):
        module = models.create(network, 5)
        with pytest.raises(UserError, match=f"{type(module).__name__} has a trunk whose units are not known; .*DPN, "):
            trunk_units(module, {"layer1.0.bn2.weight": 3} if network != "fastscnn" else {})


# unit -> (its block, what it passes on); EfficientNet and MobileNetV2 have no number of the block, but a width
UNITS = {
    "layer4.1": (BasicBlock(8, Conv, BatchNorm), relu),
    "backbone.layer4.1": (Bottleneck(2, Conv, BatchNorm), relu),
    "backbone._blocks.1": (MBConv(8, Conv, BatchNorm, expansion=2), lambda x: x),
    "backbone.features.1": (InvertedResidual(8, Conv, BatchNorm, 2), lambda x: x),
}


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_without_its_last_leaves_passes_on_its_input(name):
    block, passed_on = UNITS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 8)), jnp.float32)
    variables = jax.jit(block.init)(jax.random.key(0), x)
    own = weights.sizes({"params": variables["params"]})
    sizes = {f"{name[:-1]}{number}.{leaf}": size for number in (0, 1) for leaf, size in own.items()}
    unit = tail(trunk_units(object(), sizes))[-1]
    assert unit.name == name
    off = without(variables, {leaf.removeprefix(f"{name}.") for leaf in unit.leaves})
    apply = jax.jit(block.apply)
    np.testing.assert_allclose(apply(off, x), passed_on(x), atol=1e-6)
    assert not np.allclose(apply(variables, x), passed_on(x), atol=1e-3)
