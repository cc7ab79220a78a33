"""Two-dimensional convolution with PyTorch semantics; the one place that decides how a convolution is computed.

On GPU and TPU it is XLA's convolution. On CPU that is slow outside its fast path, so that other ways are taken there,
chosen by shape in `conv2d` and `_dense_backward`. Measured on 2 cores (AVX-512, jaxlib 0.10.2, float32, batch 4), in
milliseconds for output / input gradient / kernel gradient; "=" where XLA's convolution is kept:

    kernel                     input           XLA                  here
    depthwise 3x3 stride 2     44 x 60 x 384    34 /  -  /  -       1.8 / 0.9 / 5.0     shifted multiply-adds
    depthwise 3x3              22 x 30 x 384    28 /  -  /  -       0.4 / 0.4 / 2.6
    1x1, 64 -> 384             44 x 60          3.6 / 5.2 / 36      3.4 / 1.8 / 4.9     one matrix product
    3x3 stride 2, 3 -> 32      352 x 480        7.1 /  -  / 6.6     2.7 /  -  / 4       windows copied, one product
    3x3, 128 -> 128            44 x 60          8.2 / 8.6 / 47       =  /  =  / 20      a product for each tap
    3x3 dilation 6, 256 -> 256 44 x 60          41 / 40 / 220        =  /  =  / 65
    3x3, 64 -> 64              44 x 60          (7.8)                (10)               XLA, too small to gain

`benchmarks/train_step.py` measures a whole step.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.fence import fenced
from segjax.ops.varying import like_argument
from segjax.typing import Array

Padding = int | str | tuple[tuple[int, int], tuple[int, int]]
Pads = tuple[tuple[int, int], tuple[int, int]]

_PARTS = 4


def conv2d(
    x: Array,
    kernel: Array,
    *,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: Array | None = None,
) -> Array:
    """Cross-correlation of x (b, h, w, c) with kernel (kh, kw, c / groups, d) -> (b, h', w', d), as torch.nn.Conv2d.

    padding: pixels on every side, ((top, bottom), (left, right)), or "same" for TensorFlow's size-dependent padding.
    bias: (d,) or None.
    """
    stride, dilation = _pair(stride), _pair(dilation)
    pads = _pads(padding, x.shape[1:3], kernel.shape[:2], stride, dilation)
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and groups == x.shape[-1] == kernel.shape[-1] and groups > 1:
        out = _depthwise(x, kernel, stride, pads, dilation)
    elif on_cpu and kernel.shape[:2] == (1, 1) and groups == 1 and pads == ((0, 0), (0, 0)):
        out = _pointwise(x, kernel, stride)
    elif on_cpu and groups == 1:
        out = _dense(x, kernel, stride, pads, dilation)
    else:
        out = _xla(x, kernel, stride, pads, dilation, groups)
    return out if bias is None else out + bias


def conv_transpose2d(x: Array, kernel: Array, *, stride: int = 2, padding: int = 0, bias: Array | None = None) -> Array:
    """torch ConvTranspose2d: x (b, h, w, c), kernel (kh, kw, c, d) -> (b, (h - 1) stride - 2 padding + kh, .., d)."""
    phases = [_phases(n, k, stride, padding) for n, k in zip(x.shape[1:3], kernel.shape[:2])]
    if jax.default_backend() == "cpu" and stride > 1 and all(phases):
        out = _by_phases(x, kernel, stride, *phases)
    else:
        pads = [(k - 1 - padding, k - 1 - padding) for k in kernel.shape[:2]]
        out = lax.conv_general_dilated(
            x, kernel[::-1, ::-1], (1, 1), pads, lhs_dilation=(stride, stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
    return out if bias is None else out + bias


def _phases(size: int, kernel: int, stride: int, padding: int) -> list[tuple[int, tuple[int, int]]]:
    """Along one axis, for every output % stride: its last tap and the pixels of padding; empty where it is no help.

    Output stride * m + a sees the taps k that are a + padding modulo stride, and through tap k input m + (a + padding
    - k) / stride: an ordinary convolution of the input with every stride-th tap, in reverse.
    """
    out, phases = (size - 1) * stride - 2 * padding + kernel, []
    for a in range(stride):
        taps = range((a + padding) % stride, kernel, stride)
        if not taps or out % stride:
            return []
        before = (taps[-1] - a - padding) // stride
        after = out // stride - 1 + len(taps) - before - size
        if min(before, after) < 0:
            return []
        phases.append((taps[-1], (before, after)))
    return phases


def _by_phases(x: Array, kernel: Array, stride: int, rows, columns) -> Array:
    """One convolution for each place modulo stride: XLA's gradient of the dilated form takes 3 to 20 times as long."""
    parts = [
        [conv2d(x, kernel[y::-stride, x_::-stride], padding=(above, beside)) for x_, beside in columns]
        for y, above in rows
    ]
    y = jnp.stack([jnp.stack(row, 3) for row in parts], 2)  # b h stride w stride d
    return y.reshape(y.shape[0], y.shape[1] * stride, y.shape[3] * stride, y.shape[-1])


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _pads(padding: Padding, size, kernel, stride, dilation) -> Pads:
    if padding == "same":  # TensorFlow SAME: the output has ceil(size / stride) pixels, the odd pixel goes to the end
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in zip(size, kernel, stride, dilation)
        ]
        return tuple((t // 2, t - t // 2) for t in total)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    return tuple((int(before), int(after)) for before, after in padding)


def _pointwise(x: Array, kernel: Array, stride: tuple[int, int]) -> Array:
    """One matrix product over all pixels: XLA's own 1x1 convolution needs six times as long for the kernel gradient."""
    if stride != (1, 1):
        x = x[:, :: stride[0], :: stride[1]]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])


def _pad(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    """Pads (or crops, where negative) the sides of x (b, h, w, c) with zeros."""
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))


def _output_size(x: Array, kernel: tuple[int, int], stride, pads: Pads, dilation) -> tuple[int, int]:
    sizes = zip(x.shape[1:3], kernel, stride, pads, dilation)
    return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)


# Depthwise: kh * kw shifted multiply-adds. Columns and channels are merged, so that the innermost loop is a whole row;
# with a stride, columns are first split into their phases (planes), which makes every shifted view contiguous in a row.


def _planes(x: Array, kernel: tuple[int, int], stride, pads: Pads, dilation) -> list[Array]:
    """Padded x as one array (b, rows, columns * c) for every phase of the column stride."""
    b, h, w, c = x.shape
    (ho, wo), (top, left) = _output_size(x, kernel, stride, pads, dilation), (pads[0][0], pads[1][0])
    wo += -wo % _PARTS
    rows = (ho - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1
    columns = (wo - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1
    columns += -columns % stride[1]
    x = _pad(x, (top, rows - h - top), (left, columns - w - left))
    if stride[1] == 1:
        return [x.reshape(b, rows, -1)]
    x = x.reshape(b, rows, -1, stride[1], c)
    return [x[:, :, :, i].reshape(b, rows, -1) for i in range(stride[1])]


def _views(planes: list[Array], size: tuple[int, int], width: int, kernel: tuple[int, int], stride, dilation):
    """The kh * kw shifted views (b, ho, width) of the planes; size: (ho, c)."""
    (ho, c), (kh, kw), (sh, sw), (dh, dw) = size, kernel, stride, dilation
    for i in range(kh):
        for j in range(kw):
            start = (j * dw) // sw * c
            plane = planes[(j * dw) % sw]
            yield plane[:, i * dh : i * dh + (ho - 1) * sh + 1 : sh, start : start + width]


@partial(fenced, static_argnums=(2, 3, 4))
def _depthwise_y(planes: list[Array], kernel: Array, size: tuple[int, int], stride, dilation) -> Array:
    (ho, wo), c = size, kernel.shape[-1]
    weights = jnp.tile(kernel.reshape(-1, c), (1, wo))
    views = _views(planes, (ho, c), wo * c, kernel.shape[:2], stride, dilation)
    return sum(view * weight for view, weight in zip(views, weights)).reshape(-1, ho, wo, c)


@partial(fenced, static_argnums=(2, 3, 4, 5))
def _depthwise_dx(dy: Array, kernel: Array, size: tuple[int, int], stride, pads: Pads, dilation) -> Array:
    """Pixel r of padded x gathers dy[(r - i * dilation) / stride] * kernel[i]: one stride-1 sum for each phase of r."""
    (h, w), (b, ho, wo, c) = size, dy.shape
    (kh, kw), (sh, sw), (dh, dw), ((top, _), (left, _)) = kernel.shape[:2], stride, dilation, pads
    first_row, first_column = top // sh, left // sw
    rows, columns = -(-(top + h) // sh) - first_row, -(-(left + w) // sw) - first_column
    above, before = (kh - 1) * dh // sh, (kw - 1) * dw // sw
    below, after = first_row + rows - ho, first_column + columns - wo
    dy = _pad(dy, (above - first_row, below), (before - first_column, after))
    dy = dy.reshape(*dy.shape[:2], -1)

    def phase(a: int, d: int) -> Array:
        total = jnp.zeros((b, rows, columns * c), dy.dtype)
        for i in range(kh):
            for j in range(kw):
                if (i * dh) % sh == a and (j * dw) % sw == d:
                    r, q = above - i * dh // sh, (before - j * dw // sw) * c
                    total += dy[:, r : r + rows, q : q + columns * c] * jnp.tile(kernel[i, j, 0], columns)
        return total.reshape(b, rows, columns, c)

    if (sh, sw) == (1, 1):
        return phase(0, 0)
    lines = [jnp.stack([phase(a, d) for d in range(sw)], 3).reshape(b, rows, 1, columns * sw, c) for a in range(sh)]
    dx = jnp.concatenate(lines, 2).reshape(b, rows * sh, columns * sw, c)
    top, left = top - first_row * sh, left - first_column * sw
    return dx[:, top : top + h, left : left + w]


@partial(fenced, static_argnums=(2, 3, 4))
def _depthwise_dk(planes: list[Array], dy: Array, kernel: tuple[int, int], stride, dilation) -> Array:
    """Products of every view with dy, added over quarters of a row in one elementwise pass, then reduced."""
    _, ho, wo, c = dy.shape
    dy = _pad(dy, (0, 0), (0, -wo % _PARTS))
    dy = dy.reshape(*dy.shape[:2], -1)
    step = dy.shape[-1] // _PARTS
    quarters = [slice(i * step, (i + 1) * step) for i in range(_PARTS)]
    views = _views(planes, (ho, c), dy.shape[-1], kernel, stride, dilation)
    sums = jnp.stack([sum(view[..., q] * dy[..., q] for q in quarters) for view in views])
    return sums.reshape(*kernel, -1, c).sum(2, dtype=jnp.promote_types(dy.dtype, jnp.float32))[:, :, None]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise(x: Array, kernel: Array, stride, pads: Pads, dilation) -> Array:
    return _depthwise_forward(x, kernel, stride, pads, dilation)[0]


def _depthwise_forward(x, kernel, stride, pads, dilation):
    planes = _planes(x, kernel.shape[:2], stride, pads, dilation)
    size = _output_size(x, kernel.shape[:2], stride, pads, dilation)
    # x itself is not kept, only its shape, as an array without values
    return _depthwise_y(planes, kernel, size, stride, dilation), (planes, kernel, jnp.zeros((*x.shape[1:3], 0)))


def _depthwise_backward(stride, pads, dilation, saved, dy):
    planes, kernel, empty = saved
    dx = _depthwise_dx(dy, kernel, empty.shape[:2], stride, pads, dilation)
    dk = _depthwise_dk(planes, dy, kernel.shape[:2], stride, dilation).astype(kernel.dtype)
    return dx, like_argument(dk, kernel)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


# Dense kernels: XLA's convolution is fast for the output and the input gradient, not for the kernel gradient.


@partial(fenced, static_argnums=(1, 2, 3))
def _patches(x: Array, kernel: tuple[int, int], stride, pads: Pads) -> Array:
    """Windows of x as rows of a matrix (b * ho * wo, kh * kw * c), for a few channels and no dilation.

    kw * c values of a window lie next to each other in a row of x, so that they are copied together.
    """
    (b, _, _, c), (kh, kw), (sh, sw) = x.shape, kernel, stride
    ho, wo = _output_size(x, kernel, stride, pads, (1, 1))
    pieces = -(-kw // sw)
    rows, columns = (ho - 1) * sh + kh, (wo + pieces - 1) * sw
    (top, _), (left, _) = pads
    x = _pad(x, (top, rows - x.shape[1] - top), (left, columns - x.shape[2] - left))
    x = x.reshape(b, rows, columns * c)
    x = jnp.stack([x[:, i : i + (ho - 1) * sh + 1 : sh] for i in range(kh)], 2)
    x = x.reshape(b, ho, kh, -1, sw * c)
    x = jnp.concatenate([x[:, :, :, i : i + wo, : (kw - i * sw) * c] for i in range(pieces)], -1)
    return x.transpose(0, 1, 3, 2, 4).reshape(b * ho * wo, -1)


@partial(fenced, static_argnums=(2, 3, 4, 5))
def _dense_dk(x: Array, dy: Array, kernel: tuple[int, int], stride, pads: Pads, dilation) -> Array:
    """One matrix product of shifted x with dy for each tap."""
    c, (_, ho, wo, d) = x.shape[-1], dy.shape
    (top, bottom), (left, right) = pads
    x = _pad(x, (top, max(bottom, 0)), (left, max(right, 0)))
    dy = dy.reshape(-1, d)
    products = []
    for i in range(0, kernel[0] * dilation[0], dilation[0]):
        for j in range(0, kernel[1] * dilation[1], dilation[1]):
            view = x[:, i : i + (ho - 1) * stride[0] + 1 : stride[0], j : j + (wo - 1) * stride[1] + 1 : stride[1]]
            products.append(view.reshape(-1, c).T @ dy)
    return jnp.stack(products).reshape(*kernel, c, d)


def _xla(x: Array, kernel: Array, stride, pads: Pads, dilation, groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        x, kernel, stride, pads, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def _is_stem(x: Array, dilation) -> bool:
    return x.shape[-1] <= 4 and dilation == (1, 1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _dense(x: Array, kernel: Array, stride, pads: Pads, dilation) -> Array:
    return _dense_forward(x, kernel, stride, pads, dilation)[0]


def _dense_forward(x, kernel, stride, pads, dilation):
    if not _is_stem(x, dilation):
        return _xla(x, kernel, stride, pads, dilation), (x, kernel)
    size = _output_size(x, kernel.shape[:2], stride, pads, dilation)
    y = _patches(x, kernel.shape[:2], stride, pads) @ kernel.reshape(-1, kernel.shape[-1])
    return y.reshape(x.shape[0], *size, -1), (x, kernel)


def _dense_backward(stride, pads, dilation, saved, dy):
    x, kernel = saved
    c, d = kernel.shape[2:]
    dx, dk = jax.vjp(lambda x, kernel: _xla(x, kernel, stride, pads, dilation), x, kernel)[1](dy)
    if _is_stem(x, dilation):
        dk = _patches(x, kernel.shape[:2], stride, pads).T @ dy.reshape(-1, d)
    elif min(c, d) >= 64 and c * d > 64 * 64:
        dk = _dense_dk(x, dy, kernel.shape[:2], stride, pads, dilation)
    return dx, like_argument(dk.reshape(kernel.shape), kernel)


_dense.defvjp(_dense_forward, _dense_backward)
