"""Guided spatially-varying convolution (Lee et al., GSVNet, ICIP 2021, section 3.4): corrects warped logits.

At each cell the result is a weighted sum of the warped logits, of their neighbours (ideal-delay kernels), and of rough
logits of the frame itself; a small network predicts the weights. The tensor names are those of the released code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError
from segjax.models.layers import conv_and_norm, relu, xavier_normal
from segjax.ops import resize
from segjax.typing import Array

FORMS = ("released", "paper")
EPSILON = 1e-9  # of the sum of the weights
RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # (rows, columns) of the neighbours


def ideal_delay_kernels(size: int, form: str) -> np.ndarray:
    """Returns kernels (d, size, size) float32 that each shift a map by one neighbour (section 3.4.1).

    size: 3 for 9 kernels, or 5 for 17, whose outer ring is two cells away (appendix B.2).
    form: the last kernel is the identity in the paper, and all zeros as released.
    """
    rings = range(1, size // 2 + 1)
    shifts = [(row * ring, column * ring) for ring in rings for row, column in RING]
    kernels = np.zeros((len(shifts) + 1, size, size), np.float32)
    for kernel, (row, column) in zip(kernels, [*shifts, (0, 0)][: len(shifts) + (form == "paper")]):
        kernel[size // 2 + row, size // 2 + column] = 1
    return kernels


class GuidedFilter(nn.Module):
    """Guided filter of logits; see `GSVNet` for its options."""

    num_classes: int
    form: str = "released"
    kernel_size: int = 3
    learn_kernels: bool = False
    intra: bool = True
    dtype: str = "float32"
    bn_momentum: float = 0.1
    bn_eps: float = 1e-5
    bn_groups: int = 1

    @nn.compact
    def __call__(self, moved: Array, image: Array, train: bool = False) -> Array:
        """Returns the logits (b, h, w, k) of a frame.

        moved: logits of the frame before, warped, (b, h, w, k).
        image: the frame at that size, (b, h, w, 3) normalised floats.
        Raises UserError for impossible options.
        """
        if self.form not in FORMS or self.kernel_size not in (3, 5):
            raise UserError(
                f"a GSVNet with form={self.form!r}, kernel_size={self.kernel_size} does not exist; give form "
                f"{' or '.join(FORMS)} and kernel_size 3 or 5."
            )
        conv, norm = conv_and_norm(self, train, xavier_normal)
        conv = partial(conv, use_bias=True)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        own = []
        if self.intra:
            own.append(intra_logits(image, self.num_classes, conv, norm, "intra_net.intra_net").astype(wide))
            self.sow("intermediates", "intra", own[0])
        edges = label_edges(moved, binary=self.form == "released")
        self.sow("intermediates", "edge", edges)

        kernels = ideal_delay_kernels(self.kernel_size, self.form)
        itself = int(self.form == "released")  # the warped logits have a weight beside those of the kernels
        count = itself + len(kernels) + len(own)
        weights = guide(jnp.concatenate([*own, edges], -1), count, conv, norm).astype(wide)
        weights = weights / (weights.sum(-1, keepdims=True) + EPSILON)  # b h w count
        self.sow("intermediates", "guide", weights)

        if self.learn_kernels:
            shape = (len(kernels), 1, 1, *kernels.shape[1:])
            leaf = self.param("ideal_dk.filter_copy_s", lambda _: jnp.asarray(kernels).reshape(shape))
            kernels = leaf.reshape(kernels.shape)
        total = delayed(moved, weights[..., itself : count - len(own)], kernels)
        if itself:
            total += weights[..., :1] * moved
        return total + weights[..., -1:] * own[0] if own else total


def delayed(x: Array, weights: Array, kernels: Array) -> Array:
    """Returns the sum over d of weights_d * (x filtered by kernel d): the chunks of eq. 2 without their arrays.

    x: (b, h, w, k), 0 outside. weights: (b, h, w, d).
    kernels: (d, s, s), one for all classes. Those of a numpy array with the same shift share one term, and zeros none.
    """
    size = kernels.shape[-1]
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    total = jnp.zeros_like(x)
    for row in range(size):
        for column in range(size):
            tap = kernels[:, row, column]
            if isinstance(tap, np.ndarray):
                if not tap.any():
                    continue
                used = np.flatnonzero(tap)
                factor = (weights[..., used] * tap[used]).sum(-1, keepdims=True)
            else:
                factor = (weights * tap).sum(-1, keepdims=True)
            total += factor * padded[:, row : row + h, column : column + w]
    return total


def label_edges(logits: Array, *, binary: bool) -> Array:
    """Returns the edges (b, h, w, 1) of the most probable classes: their Laplacian, 0 outside (section 3.4.3).

    binary: 1 where the Laplacian is not 0, as released; else its sigmoid, as in the paper.
    """
    labels = jnp.argmax(logits, -1, keepdims=True).astype(logits.dtype)
    ones = np.ones((1, 3, 3), np.float32)
    around = delayed(labels, jnp.ones_like(labels), ones) - 9 * labels
    return (around != 0).astype(logits.dtype) if binary else nn.sigmoid(around)


def intra_logits(image: Array, num_classes: int, conv: Callable, norm: Callable, name: str) -> Array:
    """Returns rough logits (b, h, w, k) of a small image (b, h, w, 3), by three convolutions (section 3.4.2).

    conv, norm: constructors of layers. name: first part of their names.
    """
    x = image
    for first in (0, 3):
        x = relu(norm(name=f"{name}.{first + 1}")(conv(32, 3, name=f"{name}.{first}")(x)))
    return conv(num_classes, 3, name=f"{name}.6")(x)


def guide(x: Array, count: int, conv: Callable, norm: Callable) -> Array:
    """Returns the weights (b, h, w, count) of a cell's candidates, 0 or more, not normalised (section 3.4.3).

    x: (b, h, w, c), the logits of the frame itself, and edges.
    """

    def block(x: Array, width: int, name: str, first: int = 0, stride: int = 1) -> Array:
        y = conv(width, 3, stride, name=f"guide.{name}.{first}")(x)
        return relu(norm(name=f"guide.{name}.{first + 1}")(y))

    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, -h % 4), (0, -w % 4), (0, 0)), mode="edge")  # it halves the map twice
    fine = block(x, 32, "guide_conv")
    y = block(block(fine, 64, "guide_conv_feat", 0, 2), 128, "guide_conv_feat", 3, 2)
    for width, first in ((64, 1), (32, 5)):
        y = resize(y, (2 * y.shape[1], 2 * y.shape[2]), align_corners=True)
        y = block(y, width, "guide_deconv", first)
    return block(fine + y, count, "guide_decoder")[:, :h, :w]
