"""The fence keeps a function out of XLA's fusion, and malloc can be told to keep memory."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.fence import fenced


def test_a_fenced_function_stays_a_call_in_the_compiled_program():
    square = fenced(lambda x: x * x + 1)
    hlo = jax.jit(lambda x: square(x + 1) * 2).lower(jnp.ones((8, 8))).compile().as_text()
    assert " call(" in hlo


def test_value_gradient_and_vmap_are_those_of_the_function():
    x = jnp.arange(6.0).reshape(2, 3)
    fence = fenced(lambda x, n: jnp.sin(x) * n, static_argnums=1)
    np.testing.assert_allclose(fence(x, 3), jnp.sin(x) * 3, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: fence(x, 3).sum())(x), jnp.cos(x) * 3, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: fence(x, 2))(x), jnp.sin(x) * 2, rtol=1e-6)


def test_freed_memory_is_used_again():
    """Two large arrays one after the other: the second one must not fault its pages in."""
    program = """
import resource, sys
from segjax.ops.host_memory import reuse_freed_memory
import numpy as np
if not reuse_freed_memory(): sys.exit(3)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first, second = faults(), faults()
assert first > 20 * max(second, 1), (first, second)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode == 3:
        import pytest

        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
