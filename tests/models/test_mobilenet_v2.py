from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from segjax.errors import UserError
from segjax.models.backbones.mobilenet_v2 import MobileNetV2
from segjax.models.layers import BatchNorm, Conv
from tests.parity_tools import torch_name


def shapes(size=(65, 97), **options):
    trunk = MobileNetV2(partial(Conv), partial(BatchNorm), **options)
    return jax.eval_shape(lambda x: trunk.init_with_output(jax.random.key(0), x), jnp.zeros((1, *size, 3)))


def test_parameters_and_names_are_torchvisions():
    """3,504,872 of the classifier, less its linear layer and features.18."""
    _, variables = shapes()
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"]))
    assert count == 3_504_872 - (1280 * 1000 + 1000) - (320 * 1280 + 2 * 1280)
    leaves = {torch_name(path): leaf.shape for path, leaf in flatten_dict(variables).items()}
    assert leaves["features.1.conv.0.0.weight"] == (3, 3, 1, 32)
    assert leaves["features.1.conv.1.weight"] == (1, 1, 32, 16)
    assert leaves["features.17.conv.2.weight"] == (1, 1, 960, 320)
    assert leaves["features.17.conv.3.running_var"] == (320,)


@pytest.mark.parametrize(
    "output_stride, channels",
    [(32, {2: 16, 4: 24, 8: 32, 16: 96, 32: 320}), (16, {2: 16, 4: 24, 8: 32, 16: 320}), (8, {2: 16, 4: 24, 8: 320})],
)
def test_maps_come_finest_first_at_every_output_stride(output_stride, channels):
    maps, _ = shapes(output_stride=output_stride)
    found = {stride: x.shape[1:] for stride, x in maps.items()}
    assert list(found.items()) == [(s, (-(-65 // s), -(-97 // s), c)) for s, c in channels.items()]


def test_impossible_output_stride_is_named():
    with pytest.raises(UserError, match="12"):
        shapes(output_stride=12)
