"""Two-dimensional convolution with PyTorch semantics; the one place that decides how a convolution is computed."""

from __future__ import annotations

from jax import lax

from segjax.typing import Array

Padding = int | str | tuple[tuple[int, int], tuple[int, int]]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _pads(padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride, dilation):
    if padding == "same":  # TensorFlow SAME: the output has ceil(size / stride) pixels, the odd pixel goes to the end
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in zip(size, kernel, stride, dilation)
        ]
        return tuple((t // 2, t - t // 2) for t in total)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    return tuple(tuple(p) for p in padding)


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
    out = lax.conv_general_dilated(
        x, kernel, stride, pads, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return out if bias is None else out + bias


def conv_transpose2d(x: Array, kernel: Array, *, stride: int = 2, padding: int = 0, bias: Array | None = None) -> Array:
    """torch ConvTranspose2d: x (b, h, w, c), kernel (kh, kw, c, d) -> (b, (h - 1) stride - 2 padding + kh, .., d)."""
    pads = [(k - 1 - padding, k - 1 - padding) for k in kernel.shape[:2]]
    out = lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out if bias is None else out + bias
