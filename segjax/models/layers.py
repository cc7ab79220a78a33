"""Layers with PyTorch semantics and tensor names, from which all networks of this package are built.

A network builds the constructors `conv` and `norm` once, with `conv_and_norm`, and passes them to its blocks:

    conv, norm = conv_and_norm(self, train, kaiming_fan_out)

A submodule has its PyTorch name, dots included: `name="layer1.0"`. So the path of a leaf, joined with ".", is the name
of the published tensor after these renamings: kernel and scale -> weight, mean -> running_mean, var -> running_var.

The trunk (ImageNet weights, lower learning rate) consists of the leaves whose names have a known prefix, such as
`backbone.`; models/trunks.py lists the prefixes. A network with other names has a class attribute `trunk_pattern`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError
from segjax.models.remat import segments
from segjax.ops.activation import relu as relu
from segjax.ops.batch_norm import batch_norm, normalise
from segjax.ops.conv import conv2d, conv_transpose2d
from segjax.ops.dropout import dropout
from segjax.ops.moments import Moments, example_moments
from segjax.typing import Array

Initializer = Callable[..., Array]

kaiming_fan_in: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
kaiming_fan_out: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
torch_default: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(+-1/sqrt(fan_in))
xavier_normal: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")


def relu6(x: Array) -> Array:
    """Returns min(max(x, 0), 6)."""
    return nn.relu6(x)


class ImageNetwork(nn.Module):
    """Base of image networks, with the fields that all of them have. Call: images (b, h, w, 3) -> SegOutput.

    num_classes: k.
    dtype: of the computation, "float32" or "bfloat16"; parameters, statistics and logits stay float32.
    bn_momentum, bn_eps: of all batch norms; the momentum is the weight of the new batch.
    bn_groups: groups of images in a training batch that batch norms normalise by their own statistics, see `BatchNorm`.
    remat: segments that are computed again in the backward pass, see models/remat.py.

    remat_segments: those that the network has; no option.
    usual_remat: segments that remat=True stands for; no option.
    """

    num_classes: int
    dtype: str = "float32"
    bn_momentum: float = 0.1
    bn_eps: float = 1e-5
    bn_groups: int = 1
    remat: bool | str = False

    remat_segments = ("block", "stem", "up", "spp", "head")
    usual_remat = "block"

    @property
    def recomputed(self) -> frozenset[str]:
        """Returns the segments that `remat` names. Raises UserError for one that does not exist."""
        return segments(self.remat, self.usual_remat)


def conv_and_norm(
    network: nn.Module, train: bool, kernel_init: Initializer | None = None
) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
    """Returns the constructors of a network's convolutions and batch norms, with the network's options bound.

    network: a module with the options dtype, bn_momentum, bn_eps and bn_groups.
    train: normalise with batch statistics.
    kernel_init: initializer of the convolutions; None for PyTorch's default.
    """
    dtype, options = jnp.dtype(network.dtype), dict(momentum=network.bn_momentum, eps=network.bn_eps)
    norm = partial(BatchNorm, train=train, **options, groups=network.bn_groups, dtype=dtype)
    return partial(Conv, dtype=dtype, kernel_init=kernel_init or torch_default), norm


class Conv(nn.Module):
    """Convolution with the semantics of torch.nn.Conv2d, on (b, h, w, c).

    Leaves, float32: kernel (kh, kw, c / groups, features), bias (features,).

    padding: pixels per side, ((top, bottom), (left, right)), or "same" (TensorFlow's rule). None pads
        dilation * (k - 1) / 2 pixels, which keeps the size at stride 1.
    bias_init: initializer of the bias; None for PyTorch's default U(+-1/sqrt(fan_in)).
    dtype: type of the computation and the result.
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
        """Maps x (b, h, w, c) to (b, h', w', features)."""
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
    """Transposed convolution with the semantics of torch.nn.ConvTranspose2d, on (b, h, w, c).

    Leaves, float32: kernel_t (k, k, c, features), bias (features,). The kernel has its own leaf name because its
    published layout differs (IOHW). The defaults double the size.

    kernel_init: initializer of the kernel; None for PyTorch's default U(+-1/sqrt(features k k)), whose bound depends
        on the number of outputs per pixel.
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
        """Maps x (b, h, w, c) to (b, (h - 1) stride - 2 padding + k, (w - 1) stride - 2 padding + k, features)."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        default = _uniform(1 / np.sqrt(self.features * self.kernel_size**2))
        kernel = self.param("kernel_t", self.kernel_init or default, shape, jnp.float32).astype(self.dtype)
        bias = self.param("bias", default, (self.features,), jnp.float32).astype(self.dtype) if self.use_bias else None
        return conv_transpose2d(x.astype(self.dtype), kernel, stride=self.stride, padding=self.padding, bias=bias)


def _uniform(bound: float) -> Initializer:
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


MOMENTS = "batch_moments"


def measures(module: nn.Module) -> bool:
    """Returns whether this call measures the inputs of batch norms: its collection "batch_moments" is mutable."""
    return module.is_mutable_collection(MOMENTS) and not module.is_initializing()


class BatchNorm(nn.Module):
    """Batch norm over the last axis, with the semantics of torch.nn.BatchNorm2d.

    Leaves, float32, shape (c,): scale and bias in params; mean and var in batch_stats. The running variance is
    unbiased. Statistics of a bfloat16 batch are computed in float32.

    If the collection "batch_moments" is mutable, it receives `Moments` of each example of the input as "input", of all
    calls of a norm that the forward pass calls several times; training/recalibration.py adds them up.

    train: normalise with the batch and update the running statistics; otherwise use the running statistics.
    momentum: weight of the new batch in the running statistics.
    axis_name: mapped axis (shard_map) over which statistics are averaged. Under jit with sharded arrays they are
        global without it.
    groups: number of groups of the batch's images, each normalised by its own statistics: the first b / groups images,
        the next ones, and so on. The running statistics move towards the mean over the groups of their means and
        unbiased variances. Not with an axis name.
    """

    train: bool = False
    momentum: float = 0.1
    eps: float = 1e-5
    dtype: Any = jnp.float32
    axis_name: str | None = None
    groups: int = 1
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns x (..., c) normalised, same shape, in `dtype`; with several groups x is (b, ..., c).

        Raises UserError if the groups do not divide the images of a batch in training.
        """
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        if measures(self):
            found, zeros = example_moments(x), jnp.zeros((x.shape[0], *shape))
            moments = self.variable(MOMENTS, "input", lambda: Moments(jnp.zeros((), jnp.int32), zeros, zeros))
            moments.value += found
        if not self.train:
            return normalise(x, mean.value, var.value, scale, bias, eps=self.eps, dtype=self.dtype)
        axis_name, groups = (None, 1) if self.is_initializing() else (self.axis_name, self.groups)
        check_groups(groups, x.shape[0])
        y, batch_mean, batch_var = batch_norm(x, scale, bias, self.eps, self.dtype, axis_name, mean.value, groups)
        self.record(batch_mean, batch_var, x.size // x.shape[-1])
        return y

    def record(self, batch_mean: Array, batch_var: Array, count: int) -> None:
        """Updates the running statistics, if they may change, with the mean and the biased variance of a batch.

        batch_mean, batch_var: (c,), or (groups, c).
        count: of values per channel on this device.
        """
        if self.is_initializing() or not self.is_mutable_collection("batch_stats"):
            return
        if batch_mean.ndim == 2:
            count //= batch_mean.shape[0]
            batch_mean, batch_var = batch_mean.mean(0), batch_var.mean(0)
        count = count * (1 if self.axis_name is None else jax.lax.psum(1, self.axis_name))
        for name, new in (("mean", batch_mean), ("var", batch_var * (count / max(count - 1, 1)))):
            old = self.get_variable("batch_stats", name)
            self.put_variable("batch_stats", name, old + self.momentum * (new - old))


def check_groups(groups: int, images: int) -> None:
    """Raises UserError if a batch of `images` cannot be divided into groups of as many images each."""
    if images % groups:
        raise UserError(
            f"bn_groups={groups} does not divide a batch of {images} images; make the batch a multiple of it."
        )


def norm_of_means(norm: Callable[..., nn.Module], count: int) -> Callable[..., nn.Module]:
    """Returns the constructor of a batch norm for `count` values per channel, such as the means of `count` images.

    The variance of a single value is 0, so that its normalised value would be a constant (PyTorch raises an error).
    For one value in each group the norm therefore uses its running statistics in training too, and does not update
    them.
    """
    groups = norm.keywords.get("groups", 1) if isinstance(norm, partial) else 1
    return partial(norm, train=False) if count == groups else norm


class Dropout(nn.Module):
    """Dropout: in training, zeroes values with probability `rate` and scales the others by 1 / (1 - rate).

    It draws from the rng "dropout". It is off while the inputs of batch norms are measured, see `measures`.

    channels: zero whole channels of an example (torch.nn.Dropout2d).
    """

    rate: float
    train: bool = False
    channels: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns x (b, h, w, c), same shape, with values dropped if `train`."""
        shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1]) if self.channels else x.shape
        key = self.draw()
        return x if key is None else dropout(x, key, self.rate, shape)

    def draw(self) -> Array | None:
        """Returns the key of the next mask; None if nothing is dropped."""
        drops = self.train and self.rate and not self.is_initializing() and not measures(self)
        return self.make_rng("dropout") if drops else None
