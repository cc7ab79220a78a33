"""Networks as shapes. Tracing a network takes up to a second: each is traced once for all tests of a process."""

import re
import sys
import types
from functools import cache
from itertools import groupby
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models

SIZE = (33, 47)  # odd on purpose
LARGER = (65, 79)  # of networks whose smallest map is at 1/64 of the image
CLASSES = 5


def size_of(name, **options):
    """An odd size (h, w) that the network takes."""
    return SIZE if getattr(models.create(name, CLASSES, **options), "smallest", 1) <= min(SIZE) else LARGER


@cache
def traced(name, num_classes=CLASSES, *, size=None, batch=1, **options):
    """Shapes of the output in evaluation and of the variables; options must be hashable."""
    module = models.create(name, num_classes, **options)
    images = jax.ShapeDtypeStruct((batch, *(size or size_of(name, **options)), 3), jnp.float32)
    return jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, train=False), images)


def shapes(name, num_classes=CLASSES, **options):
    """Shapes of the variables."""
    return traced(name, num_classes, **options)[1]


@cache
def documented_network():
    """The small network of docs/new_parts.md, which compiles in a second."""
    page = Path(__file__).resolve().parents[1] / "docs" / "new_parts.md"
    module = types.ModuleType("documented_network")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(re.search(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)[1], module.__dict__)
    return module.Tiny


def _numbers(name):
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _kind(name):
    """The name without its last number: the depth or width of the trunk."""
    return re.sub(r"\d+(?=\D*$)", "", name)


def lightest(names):
    """Of names that differ in the depth or width of the trunk only, the one of the smallest trunk."""
    return [min(alike, key=_numbers) for _, alike in groupby(sorted(names, key=_kind), _kind)]


LIGHTEST = lightest(models.names())
# deeper trunks of networks that are tested, whose tracing takes seconds
DEEP = ("ldn161", "ldn169", "lrn50", "lrn101")
# the ladder of ldn121 on trunks that have tests of their own
for name in ("ldn_dpn68", "ldn_efficientnet_lite0"):
    LIGHTEST.remove(name)


def every(only=None, names=None, argument="name"):
    """Parametrises by names of networks: those not in `only` are marked slow."""
    names = models.names() if names is None else names
    marked = [pytest.param(name, marks=() if only is None or name in only else pytest.mark.slow) for name in names]
    return pytest.mark.parametrize(argument, marked)


def full(tree, value):
    """Arrays of one value with the shapes of `tree`; they take no memory and cannot be written to."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(value, leaf.dtype), leaf.shape), tree)


def count(tree):
    """Number of values in a tree of shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
