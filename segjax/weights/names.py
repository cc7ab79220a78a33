"""Names and layouts: a leaf of the variables <-> a tensor of a PyTorch state dict.

Modules have the published names, so the rule is one line: join the path with "." and rename the leaf. Deviations
(another prefix, an ImageNet head that a segmentation network lacks) are in one table per family, in families/.
"""

from __future__ import annotations

import math

import flax.traverse_util
import numpy as np

from segjax.typing import Array, Variables

COLLECTIONS = ("params", "batch_stats")
LEAVES = {"kernel": "weight", "kernel_t": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# counters: num_batches_tracked only matters for momentum=None, n_averaged is that of AveragedModel
IGNORED = r"(^|\.)(num_batches_tracked|n_averaged)$"

Path = tuple[str, ...]


def torch_name(path: Path) -> str:
    """Returns the PyTorch name of a leaf; path: without the collection, such as ("layer1.0", "bn1", "var")."""
    return ".".join((*path[:-1], LEAVES.get(path[-1], path[-1])))


def leaves(variables: Variables) -> dict[str, Path]:
    """Returns PyTorch name -> (collection, *path) of every parameter and batch statistic."""
    flat = flax.traverse_util.flatten_dict({c: variables[c] for c in COLLECTIONS if c in variables})
    named = {torch_name(path[1:]): path for path in flat}
    if len(named) != len(flat):
        raise ValueError("two leaves have the same PyTorch name")
    return named


def sizes(variables: Variables) -> dict[str, int]:
    """Returns PyTorch name -> number of values of every leaf; leaves may be abstract."""
    flat = flax.traverse_util.flatten_dict({c: variables[c] for c in COLLECTIONS if c in variables})
    return {name: math.prod(flat[path].shape) for name, path in leaves(variables).items()}


def _axes(leaf: str, ndim: int) -> tuple[int, ...]:
    """Returns the axes of a PyTorch tensor in the order of a leaf's.

    kernel: OIHW -> HWIO, also of a grouped convolution; (out, in) -> (in, out).
    kernel_t, of a transposed convolution: IOHW -> HWIO.
    """
    if leaf == "kernel_t":
        return (*range(2, ndim), 0, 1)
    return (*range(2, ndim), 1, 0) if leaf == "kernel" and ndim >= 2 else tuple(range(ndim))


def from_torch(leaf: str, tensor: Array) -> np.ndarray:
    """Returns a PyTorch tensor in the layout of a leaf; leaf: its name, "kernel", "scale", ..."""
    tensor = np.asarray(tensor)
    return tensor.transpose(_axes(leaf, tensor.ndim))


def to_torch(leaf: str, value: Array) -> np.ndarray:
    """Returns a leaf's value in the layout of a PyTorch tensor, the inverse of `from_torch`."""
    value = np.asarray(value)
    return value.transpose(np.argsort(_axes(leaf, value.ndim)))


def to_state_dict(variables: Variables) -> dict[str, np.ndarray]:
    """Returns parameters and batch statistics under PyTorch names, in PyTorch layouts."""
    flat = flax.traverse_util.flatten_dict({c: variables[c] for c in COLLECTIONS if c in variables})
    return {name: to_torch(path[-1], flat[path]) for name, path in leaves(variables).items()}
