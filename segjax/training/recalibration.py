"""Population statistics of batch norms: mean and variance of what reaches each norm, over a whole set of images.

While they are measured, norms use the statistics of the batch, as in training. Measured with the stored statistics
instead, the new ones of later layers would belong to the old ones of earlier layers: repeated, that does not converge
before as many passes as there are norms one after the other. (Fast-SCNN on 18 images, share of right pixels: 0.79 with
all images in one batch, 0.79 with batches of 9, 0.72 with batches of 5; with stored statistics then 0.23, 0.39, 0.18.)

Source: Ladder-style DenseNets, section 5.1: batchnorm statistics as exact averages over the training set.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jax.sharding import Mesh

from segjax import parallel
from segjax.data.array_file import read_arrays
from segjax.files import replacing
from segjax.models.layers import MOMENTS
from segjax.ops.moments import Moments
from segjax.typing import Array, Batch, Variables

Norm = tuple[str, ...]  # path of a batch norm in the network
Measured = Mapping[Norm, Moments]


def make_measurement(
    module: Any, prepare: Callable[[Batch], Array], mesh: Mesh, *, rows: int
) -> Callable[[Variables, Batch], dict[Norm, Moments]]:
    """Builds a jitted function (variables, batch) -> moments (rows, c) of the input of each batch norm, replicated.

    The result is the same on any number of devices: statistics of a batch are those of its first `rows` examples.

    module: of the network, without rematerialisation and groups of batch norms.
    prepare: batch -> images (b, h, w, 3) float32, normalised.
    mesh: of devices.
    rows: examples of a batch; more of them only fill up the devices.
    """

    @functools.partial(jax.jit, out_shardings=parallel.replicated(mesh))
    def measure(variables: Variables, batch: Batch) -> dict[str, Moments]:
        _, new = module.apply(variables, prepare(batch)[:rows], train=True, mutable=[MOMENTS])
        return new.get(MOMENTS, {})

    def by_norm(variables: Variables, batch: Batch) -> dict[Norm, Moments]:
        flat = flax.traverse_util.flatten_dict(measure(variables, batch))
        return {path[:-1]: moments for path, moments in flat.items()}

    return by_norm


class Population:
    """Moments of the input of each batch norm over the examples counted so far, in float64."""

    def __init__(self, norms: Measured | None = None):
        self.norms: dict[Norm, Moments] = dict(norms or {})

    def add(self, measured: Measured, counted: np.ndarray) -> None:
        """Adds the examples of a batch.

        measured: see `make_measurement`.
        counted: bool (rows,), the examples that count.
        """
        for norm, found in parallel.fetch_replicated(dict(measured)).items():
            count, mean, squares = (np.asarray(x, np.float64) for x in found)
            mean, squares = mean[counted], squares[counted]
            middle = mean.mean(0)
            batch = Moments(count * len(mean), middle, (squares + count * (mean - middle) ** 2).sum(0))
            self.norms[norm] = self.norms[norm] + batch if norm in self.norms else batch

    def statistics(self, batch_stats: Any) -> tuple[Any, list[str]]:
        """Returns (batch statistics with the mean and variance of the population, names of norms that keep theirs).

        The network does not call the latter, or they have seen a single value, which has no variance.

        batch_stats: of the network, nested dict.
        """
        flat, idle = flax.traverse_util.flatten_dict(batch_stats), []
        for norm in dict.fromkeys(path[:-1] for path in flat):
            if norm not in self.norms or self.norms[norm].count < 2:
                idle.append(".".join(norm))
                continue
            found = self.norms[norm]
            for leaf, value in (("mean", found.mean), ("var", found.squares / found.count)):
                flat[*norm, leaf] = value.astype(flat[*norm, leaf].dtype)
        return flax.traverse_util.unflatten_dict(flat), idle

    def save(self, path: Path, **note: Any) -> None:
        """Writes the moments to a .npz file, which is whole or absent; note: plain values."""
        arrays = {f"{'/'.join(norm)}:{name}": x for norm, m in self.norms.items() for name, x in m._asdict().items()}
        with replacing(path) as part, open(part, "wb") as file:
            np.savez(file, **arrays, note=json.dumps(note))

    @classmethod
    def load(cls, path: Path) -> tuple[Population, dict[str, Any]]:
        """Returns (what `save` has written, its note). Raises FileNotFoundError, and ValueError for a damaged file."""
        stored = read_arrays(path)
        try:
            note = json.loads(str(stored.pop("note")))
            norms: dict[Norm, dict[str, np.ndarray]] = {}
            for name, array in stored.items():
                norm, _, field = name.rpartition(":")
                norms.setdefault(tuple(norm.split("/")), {})[field] = array
            return cls({norm: Moments(**fields) for norm, fields in norms.items()}), note
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error})") from None


EPSILON = 1e-5  # of PyTorch's batch norm


def changes(old: Any, new: Any) -> dict[str, float]:
    """Returns how far statistics have moved, over all channels of all norms.

    mean_shift: root of the mean square of (new mean - old mean) / new deviation.
    deviation_ratio: geometric mean of new deviation / old deviation.

    old, new: batch statistics, nested dicts.
    """
    old, new = flax.traverse_util.flatten_dict(old), flax.traverse_util.flatten_dict(new)
    shifts, ratios = [], []
    for path, mean in new.items():
        if path[-1] == "mean":
            variances = [np.asarray(one[*path[:-1], "var"], np.float64) + EPSILON for one in (old, new)]
            shifts.append((np.asarray(mean, np.float64) - np.asarray(old[path], np.float64)) / np.sqrt(variances[1]))
            ratios.append(np.log(variances[1] / variances[0]) / 2)
    shift, ratio = np.concatenate(shifts), np.concatenate(ratios)
    return {"mean_shift": float(np.sqrt(np.square(shift).mean())), "deviation_ratio": float(np.exp(ratio.mean()))}
