"""Layers with PyTorch semantics and tensor names: what every network of this package is made of.

A network builds `conv` and `norm` once, with `conv_and_norm`, and hands them to its blocks:

    conv, norm = conv_and_norm(self, train, kaiming_fan_out)

A submodule's name is the PyTorch name (dots included, `name="layer1.0"`), so that the path of a leaf joined with "." is
the name of the published tensor, once kernel/scale -> weight, mean -> running_mean, var -> running_var.

Which leaves are the trunk (ImageNet weights, slower learning) is told by their prefix, `backbone.` among others;
models/trunks.py lists all that are known. A network with another one has a class attribute `trunk_pattern`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.batch_norm import batch_norm, normalise
from segjax.ops.conv import conv2d, conv_transpose2d
from segjax.typing import Array

Initializer = Callable[..., Array]

kaiming_fan_in: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
kaiming_fan_out: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
torch_default: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(+-1/sqrt(fan_in))
xavier_normal: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")


def relu(x: Array) -> Array:
    """max(x, 0), with gradient 0 at 0."""
    return nn.relu(x)


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return nn.relu6(x)


def conv_and_norm(
    network: nn.Module, train: bool, kernel_init: Initializer | None = None
) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
    """The constructors of the layers of a network, with its options dtype, bn_momentum and bn_eps bound.

    kernel_init: None for PyTorch's default.
    """
    dtype = jnp.dtype(network.dtype)
    norm = partial(BatchNorm, train=train, momentum=network.bn_momentum, eps=network.bn_eps, dtype=dtype)
    return partial(Conv, dtype=dtype, kernel_init=kernel_init or torch_default), norm


def rematerialised(block: type[nn.Module], remat: bool) -> type[nn.Module]:
    """Returns the block; if `remat`, a block of the same name whose activations the backward pass computes again."""
    return nn.remat(block) if remat else block


class Conv(nn.Module):
    """torch.nn.Conv2d on (b, h, w, c). Leaves: kernel (kh, kw, c / groups, features), bias (features,), float32.

    padding: pixels per side, ((top, bottom), (left, right)), "same" (TensorFlow), or None for dilation * (k - 1) / 2,
        which keeps the size at stride 1.
    bias_init: None for PyTorch's default U(+-1/sqrt(fan_in)).
    dtype: of the computation and the result.
    """

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    padding: int | str | tuple[tuple[int, int], tuple[int, int]] | None = None
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    dtype: Any = jnp.float32
    kernel_init: Initializer = torch_default
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (b, h, w, c) -> (b, h', w', features)."""
        size = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else tuple(self.kernel_size)
        padding = self.padding
        if padding is None:
            padding = tuple((self.dilation * (k - 1) // 2,) * 2 for k in size)
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1] // self.groups, self.features), jnp.float32)
        bias = None
        if self.use_bias:
            init = self.bias_init or _uniform(1 / np.sqrt(np.prod(kernel.shape[:3])))
            bias = self.param("bias", init, (self.features,), jnp.float32).astype(self.dtype)
        return conv2d(
            x.astype(self.dtype), kernel.astype(self.dtype),
            stride=self.stride, padding=padding, dilation=self.dilation, groups=self.groups, bias=bias,
        )  # fmt: skip


class ConvTranspose(nn.Module):
    """torch.nn.ConvTranspose2d on (b, h, w, c). Leaves: kernel_t (k, k, c, features), bias (features,), float32.

    The defaults double the size. The leaf has a name of its own because its published layout differs (IOHW).
    kernel_init: None for PyTorch's default, whose bound counts the outputs of a pixel: U(+-1/sqrt(features k k)).
    """

    features: int
    kernel_size: int = 4
    stride: int = 2
    padding: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (b, h, w, c) -> (b, (h - 1) stride - 2 padding + k, .., features)."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        default = _uniform(1 / np.sqrt(self.features * self.kernel_size**2))
        kernel = self.param("kernel_t", self.kernel_init or default, shape, jnp.float32).astype(self.dtype)
        bias = self.param("bias", default, (self.features,), jnp.float32).astype(self.dtype) if self.use_bias else None
        return conv_transpose2d(x.astype(self.dtype), kernel, stride=self.stride, padding=self.padding, bias=bias)


def _uniform(bound: float) -> Initializer:
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm2d over the last axis: momentum weighs the new batch, the running variance is unbiased.

    train: normalise with the batch and update the running statistics; otherwise use the running statistics.
    axis_name: mapped axis (shard_map) to average statistics over; under jit with sharded arrays they are global anyway.
    Leaves: params scale, bias; batch_stats mean, var; float32, and so are the statistics of a bfloat16 batch.
    """

    train: bool = False
    momentum: float = 0.1
    eps: float = 1e-5
    dtype: Any = jnp.float32
    axis_name: str | None = None
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (..., c) -> (..., c) in dtype."""
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        if not self.train:
            return normalise(x, mean.value, var.value, scale, bias, eps=self.eps, dtype=self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, batch_mean, batch_var = batch_norm(x, scale, bias, self.eps, self.dtype, axis_name)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            count = x.size // x.shape[-1] * (1 if axis_name is None else jax.lax.psum(1, axis_name))
            unbiased = batch_var * (count / max(count - 1, 1))
            mean.value += self.momentum * (batch_mean - mean.value)
            var.value += self.momentum * (unbiased - var.value)
        return y


def norm_of_means(norm: Callable[..., nn.Module], count: int) -> Callable[..., nn.Module]:
    """The constructor of the batch norm for `count` values per channel, such as the means of a batch of images.

    The variance of a single value is 0 and would turn what follows into a constant (PyTorch raises an error): the norm
    of one then uses, and does not update, its running statistics in training too.
    """
    return partial(norm, train=False) if count == 1 else norm


class Dropout(nn.Module):
    """Zeroes values with probability `rate` while training and scales the rest by 1 / (1 - rate); rng name "dropout".

    channels: zero whole channels of an example (torch.nn.Dropout2d).
    """

    rate: float
    train: bool = False
    channels: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (b, h, w, c) -> same shape."""
        if not self.train or self.rate == 0 or self.is_initializing():
            return x
        shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1]) if self.channels else x.shape
        # 16 random bits per value instead of 32: half the time, and the probability is off by less than 1e-5
        limit = round((1 - self.rate) * 2**16)
        keep = jax.random.bits(self.make_rng("dropout"), shape, jnp.uint16) < limit
        return jnp.where(keep, x * (2**16 / limit), 0).astype(x.dtype)
