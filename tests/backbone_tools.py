"""An ImageNet classifier on a trunk; only the tests need one."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.backbones.densenet import DenseNet
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
    """logits (b, 1000), and every map of the trunk under features; "features" is the last one."""

    trunk: callable
    fc: str
    eps: float = 1e-5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, train=False):
        dtype = jnp.dtype(self.dtype)
        norm = partial(BatchNorm, train=train, eps=self.eps, dtype=dtype)
        trunk = self.trunk(conv=partial(Conv, dtype=dtype), norm=norm)
        nn.share_scope(self, trunk)
        if isinstance(trunk, ResNet):
            maps = trunk.stages(images)
            maps["stem"], x = maps["layer0"], maps["layer4"]
        elif isinstance(trunk, DenseNet):
            maps = trunk.stages(images)
            x = maps["norm5"]
        else:
            maps = trunk(images)
            x = maps["head"]
        pooled = nn.relu(x) if isinstance(trunk, DenseNet) else x
        maps = {str(k): v for k, v in maps.items()} | {"features": x}
        return SegOutput(Linear(1000, name=self.fc)(pooled.mean((1, 2))), features=maps)
