"""A compiled program that calls OpenCV, in a process that may use one core only."""

import os
import subprocess
import sys

import pytest

from tests.processes import environment

CODE = """
import os, jax, numpy as np
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from segjax import models
network = models.create_propagation("warp_dis", 5, stride=4)
images = np.zeros((1, 64, 96, 3), np.float32)
state = np.ones((1, 16, 24, 5), np.float32)
print(np.asarray(jax.jit(lambda *x: network.apply({}, *x))(state, images, images)).shape)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process to a core")
@pytest.mark.parametrize("threads", (None, 2))
def test_one_core_needs_two_threads(threads):
    variables = {name: value for name, value in environment().items() if name != "NPROC"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=variables | ({"NPROC": str(threads)} if threads else {}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if threads:
        assert done.stdout.strip() == "(1, 16, 24, 5)", done.stderr
    else:
        assert "UserError: warp_dis" in done.stderr and "NPROC=2" in done.stderr
