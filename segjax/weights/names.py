"""Names and layouts: a leaf of the variables <-> a tensor of a PyTorch state dict.

The modules carry the published names, so the rule is one line: join the path with "." and rename the leaf. What
deviates (another prefix, an ImageNet head that a segmentation network lacks) is one table per family, below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import flax.traverse_util
import numpy as np

from segjax.errors import UserError, did_you_mean
from segjax.typing import Array, Variables

COLLECTIONS = ("params", "batch_stats")
LEAVES = {"kernel": "weight", "kernel_t": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
PREFIXES = ("module.", "model.")  # left by DataParallel and by training wrappers
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")  # keys of a checkpoint dict
IGNORED = r"(^|\.)num_batches_tracked$"  # a counter that only matters for momentum=None

Path = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """How the names of one family of files become those of a network.

    rename: ordered (regex, replacement); the first that matches a name (re.sub, once) is applied.
    ignore: regex of tensors the networks have no place for.
    fills: regex of the leaves such a file must fill; the others (a decoder on an ImageNet trunk) keep their values.
    """

    rename: Sequence[tuple[str, str]] = ()
    ignore: str | None = None
    fills: str = ""

    def __call__(self, name: str) -> str:
        """Name of the file's tensor in the network."""
        for pattern, replacement in self.rename:
            renamed, count = re.subn(pattern, replacement, name, count=1)
            if count:
                return renamed
        return name


SOURCES: dict[str, Source] = {
    # torchvision ImageNet ResNet -> trunk of the VPLR networks, whose stem is a Sequential named layer0
    "torchvision_resnet": Source(
        rename=((r"^conv1\.", "layer0.0."), (r"^bn1\.", "layer0.1.")), ignore=r"^fc\.", fills=r"^layer[0-4]\."
    ),
    # EfficientNet-Lite ImageNet classifier -> trunk under `backbone`; features end before the 1280-channel convolution
    "efficientnet_lite": Source(
        rename=((r"^(_conv_stem|_bn0|_blocks)\.", r"backbone.\1."),),
        ignore=r"^(_conv_head|_bn1|_fc)\.",
        fills=r"^backbone\.(_conv_stem|_bn0|_blocks)\.",  # SwiftNet keeps its decoder under `backbone` as well
    ),
    # SDCNet2D as released: statistics that are options here, and the flow network where it was saved too
    "sdcnet": Source(ignore=r"^(flow_mean|flow_std|rgb_mean)$|^flownet2\."),
}  # fmt: skip


def find_source(source: str | Source | None) -> Source:
    """The table of that name, a Source as it is, and the identity for None."""
    if source is None:
        return Source()
    if isinstance(source, Source):
        return source
    if source not in SOURCES:
        raise UserError(f"source={source!r} is no known family of weight files.{did_you_mean(source, SOURCES)}")
    return SOURCES[source]


def torch_name(path: Path) -> str:
    """PyTorch name of the leaf at path (without the collection), e.g. ("layer1.0", "bn1", "var")."""
    return ".".join((*path[:-1], LEAVES.get(path[-1], path[-1])))


def leaves(variables: Variables) -> dict[str, Path]:
    """PyTorch name -> (collection, *path) for every parameter and batch statistic."""
    flat = flax.traverse_util.flatten_dict({c: variables[c] for c in COLLECTIONS if c in variables})
    named = {torch_name(path[1:]): path for path in flat}
    if len(named) != len(flat):
        raise ValueError("two leaves have the same PyTorch name")
    return named


def _axes(leaf: str, ndim: int) -> tuple[int, ...]:
    """Axes of a PyTorch tensor in the order of ours: OIHW -> HWIO, also grouped; (out, in) -> (in, out).

    kernel_t, of a transposed convolution: IOHW -> HWIO.
    """
    if leaf == "kernel_t":
        return (*range(2, ndim), 0, 1)
    return (*range(2, ndim), 1, 0) if leaf == "kernel" and ndim >= 2 else tuple(range(ndim))


def from_torch(leaf: str, tensor: Array) -> np.ndarray:
    """A PyTorch tensor in the layout of a leaf of that name ("kernel", "scale", ...)."""
    tensor = np.asarray(tensor)
    return tensor.transpose(_axes(leaf, tensor.ndim))


def to_torch(leaf: str, value: Array) -> np.ndarray:
    """The inverse of from_torch."""
    value = np.asarray(value)
    return value.transpose(np.argsort(_axes(leaf, value.ndim)))


def to_state_dict(variables: Variables) -> dict[str, np.ndarray]:
    """Parameters and batch statistics under PyTorch names, in PyTorch layouts."""
    flat = flax.traverse_util.flatten_dict({c: variables[c] for c in COLLECTIONS if c in variables})
    return {name: to_torch(path[-1], flat[path]) for name, path in leaves(variables).items()}


def strip_prefixes(tensors: Mapping[str, Array], targets: Sequence[str]) -> dict[str, Array]:
    """Removes the wrappers' prefixes ("module.", "model.") from the names, unless the network itself uses them."""
    names = dict(tensors)
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if any(n.startswith(prefix) for n in names) and not any(t.startswith(prefix) for t in targets):
                shortened = {n.removeprefix(prefix): value for n, value in names.items()}
                if len(shortened) < len(names):
                    raise UserError(
                        f"The weights hold the same tensor with and without the prefix {prefix!r}; remove one of them."
                    )
                names, stripped = shortened, True
    return names
