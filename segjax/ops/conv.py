"""Two-dimensional convolution with PyTorch semantics; the one place that decides how a convolution is computed.

In programs for GPU it is XLA's convolution, and in those for TPU but for narrow groups; some strided ones get a row
more, so that they can be shared out by rows. On CPU that is slow outside its fast path, above all in its gradients, and
`choose` selects another lowering by shape. docs/speed.md has the times of all lowerings on the shapes of the networks
here, which `python -m benchmarks.convolutions` measures.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from segjax.ops import dense_conv
from segjax.ops.conv_geometry import Padding, Pads, pads_of, pair, seen_share, seen_taps, surplus_rows
from segjax.ops.depthwise import depthwise
from segjax.ops.platform import platform
from segjax.typing import Array

BUNDLE = 64  # channels of the dense convolutions that replace a grouped one; on a TPU, whose registers have 128 lanes,
TPU_BUNDLE = 128  # it is this number, and only groups of so few channels are replaced (docs/speed.md)
TPU_NARROW_GROUP = 16
# Products with padding are skipped if less than this share is with the image, and if the convolution has this many
# multiply-adds (some milliseconds): a product for each tap takes longer to compile.
MOSTLY_SEEN = 0.9
WORTH_COMPILING = 2**28
_textbook = jax.make_user_context(False)


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
    """Returns the cross-correlation (b, h', w', d) of x with a kernel, as torch.nn.Conv2d.

    x: (b, h, w, c).
    kernel: (kh, kw, c / groups, d).
    stride, dilation: pixels, or (rows, columns).
    padding: pixels on every side, ((top, bottom), (left, right)), or "same" for TensorFlow's size-dependent padding.
    bias: (d,) or None.
    """
    stride, dilation = pair(stride), pair(dilation)
    pads = pads_of(padding, x.shape[1:3], kernel.shape[:2], stride, dilation)
    if _textbook.value:
        lowering = "xla"
    else:
        (rows, above), (columns, beside) = map(seen_taps, x.shape[1:3], kernel.shape[:2], pads, stride, dilation)
        kernel, pads = kernel[rows, columns], (above, beside)
        lowering = choose(x.shape, kernel.shape, stride, pads, dilation, groups, platform())
    out = LOWERINGS[lowering](x, kernel, stride, pads, dilation, groups)
    return out if bias is None else out + bias


@contextlib.contextmanager
def textbook_convolutions() -> Iterator[None]:
    """Lowers all convolutions traced inside the block to XLA's own, so that their multiply-adds can be counted."""
    with _textbook(True):
        yield


def choose(x: tuple[int, ...], kernel: tuple[int, ...], stride, pads: Pads, dilation, groups: int, target: str) -> str:
    """Returns the name of the fastest lowering for these shapes, for the output and both gradients.

    x, kernel: shapes, as for `conv2d`.
    target: platform of the program, see `segjax.ops.platform`.
    """
    channels, features = x[-1], kernel[-1]
    if target == "tpu" and groups > 1 and 1 < kernel[2] <= TPU_NARROW_GROUP:
        return "bundles"
    if target != "cpu":
        return "even_rows" if surplus_rows(x[1], kernel[0], pads[0], stride[0], dilation[0]) else "xla"
    if groups == channels == features and groups > 1:
        return "depthwise"
    if groups > 1:
        return "bundles"
    if kernel[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        return "pointwise"
    if channels <= 4 and dilation == (1, 1):
        return "windows"
    if min(channels, features) >= 64 and channels * features > 64 * 64:
        work = math.prod(x) * math.prod(kernel[:2]) * features // math.prod(stride)
        saves = work >= WORTH_COMPILING and seen_share(x, kernel, stride, pads, dilation) < MOSTLY_SEEN
        return "shifted" if saves else "taps"
    return "xla"


def _bundles(x: Array, kernel: Array, stride, pads: Pads, dilation, groups: int) -> Array:
    """Returns a grouped convolution by dense ones of about BUNDLE channels, whose kernels are 0 between groups.

    XLA's CPU backend has no fast grouped convolution, and takes 20 to 200 times as long for its gradients. That for
    TPUs pads each group to the lanes of a register.
    """
    target = platform()
    (kh, kw, inner), outer = kernel.shape[:3], kernel.shape[-1] // groups
    most = (TPU_BUNDLE if target == "tpu" else BUNDLE) // max(inner, outer)
    together = max(n for n in range(1, groups + 1) if groups % n == 0 and n <= max(most, 1))
    count = groups // together
    # Both axes of the taps are merged. Otherwise the gradient of this product is a sum over one of 7 axes, which is a
    # segmentation fault on the CPU (jaxlib 0.10.2 and 0.11, https://github.com/jax-ml/jax/issues/39257).
    parts = kernel.reshape(kh * kw, inner, count, together, outer)
    own = jnp.eye(together, dtype=kernel.dtype)  # (group of the input, group of the output)
    parts = parts[:, None, :, :] * own[:, None, None, :, None]  # (kh kw) together inner count together outer
    parts = parts.reshape(kh, kw, together * inner, count, together * outer)
    width, out = together * inner, []
    for i in range(count):
        view, part = x[..., i * width : (i + 1) * width], parts[:, :, :, i]
        lowering = choose(view.shape, part.shape, stride, pads, dilation, 1, target)
        out.append(LOWERINGS[lowering](view, part, stride, pads, dilation, 1))
    return jnp.concatenate(out, -1)


# (x, kernel, stride, pads, dilation, groups) -> output
LOWERINGS: dict[str, Callable[..., Array]] = {
    "xla": dense_conv.xla,
    "even_rows": dense_conv.even_rows,
    "depthwise": lambda x, kernel, stride, pads, dilation, groups: depthwise(x, kernel, stride, pads, dilation),
    "bundles": _bundles,
    "pointwise": lambda x, kernel, stride, pads, dilation, groups: dense_conv.pointwise(x, kernel, stride),
    "windows": lambda x, kernel, stride, pads, dilation, groups: dense_conv.windows(x, kernel, stride, pads, dilation),
    "shifted": lambda x, kernel, stride, pads, dilation, groups: dense_conv.shifted(x, kernel, stride, pads, dilation),
    "taps": lambda x, kernel, stride, pads, dilation, groups: dense_conv.taps(x, kernel, stride, pads, dilation),
}


def conv_transpose2d(x: Array, kernel: Array, *, stride: int = 2, padding: int = 0, bias: Array | None = None) -> Array:
    """Returns the transposed convolution (b, (h - 1) stride - 2 padding + kh, .., d), as torch.nn.ConvTranspose2d.

    x: (b, h, w, c).
    kernel: (kh, kw, c, d).
    stride, padding: pixels, of the output.
    bias: (d,) or None.
    """
    phases = [_phases(n, k, stride, padding) for n, k in zip(x.shape[1:3], kernel.shape[:2])]
    if platform() == "cpu" and stride > 1 and all(phases):
        out = _by_phases(x, kernel, stride, *phases)
    else:
        pads = [(k - 1 - padding, k - 1 - padding) for k in kernel.shape[:2]]
        out = lax.conv_general_dilated(
            x, kernel[::-1, ::-1], (1, 1), pads, lhs_dilation=(stride, stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
    return out if bias is None else out + bias


def _phases(size: int, kernel: int, stride: int, padding: int) -> list[tuple[int, tuple[int, int]]]:
    """Returns for each output modulo stride, along one axis, its last tap and the pixels of padding (before, after).

    Output stride * m + a is a sum over the taps k that equal a + padding modulo stride. Tap k reads input
    m + (a + padding - k) / stride. That is an ordinary convolution of the input with every stride-th tap, reversed.
    The list is empty if the outputs cannot be computed so, without cropping.
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
    """Returns the transposed convolution by one convolution for each output position modulo stride.

    XLA's gradient of the dilated form takes 3 to 20 times as long on CPU.
    """
    parts = [
        [conv2d(x, kernel[y::-stride, x_::-stride], padding=(above, beside)) for x_, beside in columns]
        for y, above in rows
    ]
    y = jnp.stack([jnp.stack(row, 3) for row in parts], 2)
    return rearrange(y, "b h row w column d -> b (h row) (w column) d")
