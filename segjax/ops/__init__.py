"""Pure functions of arrays: resize, warp, correlation, pooling, convolution and batch norm, all with PyTorch semantics.

`platform`, `made_for` and `for_platform` select the lowerings of a program that is made for another platform.
"""

from segjax.ops.batch_norm import batch_moments, batch_norm, normalise
from segjax.ops.conv import conv2d, conv_transpose2d, textbook_convolutions
from segjax.ops.correlation import correlation
from segjax.ops.kernel_warp import kernel_warp
from segjax.ops.platform import for_platform, made_for, platform
from segjax.ops.pooling import adaptive_avg_pool, avg_pool, max_pool
from segjax.ops.resize import resize
from segjax.ops.resize_argmax import resize_argmax
from segjax.ops.warp import bilinear_warp, grid_sample

__all__ = [
    "adaptive_avg_pool",
    "avg_pool",
    "batch_moments",
    "batch_norm",
    "bilinear_warp",
    "conv2d",
    "conv_transpose2d",
    "correlation",
    "for_platform",
    "grid_sample",
    "kernel_warp",
    "made_for",
    "max_pool",
    "normalise",
    "platform",
    "resize",
    "resize_argmax",
    "textbook_convolutions",
]
