"""Trunks against published ImageNet classifiers, with a classifier on top that only the tests need."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_tools import FIXTURES, check_eval, check_fixture, check_train

from segjax.errors import UserError
from segjax.models.backbones.efficientnet_lite import EfficientNetLite, scaled_width, stages
from segjax.models.backbones.resnet import ResNet
from segjax.models.layers import BatchNorm, Conv
from segjax.typing import SegOutput


class Linear(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[-1], self.features))
        return x @ kernel + self.param("bias", nn.initializers.zeros, (self.features,))


class Classifier(nn.Module):
    trunk: callable
    fc: str
    eps: float = 1e-5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, train=False):
        dtype = jnp.dtype(self.dtype)
        trunk = self.trunk(
            conv=partial(Conv, dtype=dtype), norm=partial(BatchNorm, train=train, eps=self.eps, dtype=dtype)
        )
        nn.share_scope(self, trunk)
        if isinstance(trunk, ResNet):
            maps = trunk.stages(images)
            maps["stem"], x = maps["layer0"], maps["layer4"]
        else:
            maps = trunk(images)
            x = maps["head"]
        maps = {str(k): v for k, v in maps.items()} | {"features": x}
        return SegOutput(Linear(1000, name=self.fc)(x.mean((1, 2))), features=maps)


def resnet(depth, **options):
    return Classifier(partial(ResNet, depth), "fc", **options)


def heads(output):
    return {"features": output.features["features"], "logits": output.logits}


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("case", [0, 1])
def test_resnet_equals_torchvision(depth, case, parity):
    check_eval(resnet(depth), parity / f"resnet{depth}", case, 1e-5, heads=heads)


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_train_step_equals_torchvision(depth, parity):
    check_train(
        resnet(depth, dtype="float64"), parity / f"resnet{depth}", 2, outputs=1e-6, gradients=1e-6, loss=1e-6,
        x64=True, heads=heads,
    )  # fmt: skip


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_equals_the_stored_numbers(depth):
    check_fixture(resnet(depth), FIXTURES / f"parity_resnet{depth}.npz", 1e-5, heads=heads)
