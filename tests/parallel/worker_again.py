"""Three training steps on 8 CPU devices in a process of its own, for test_distributed.py.

With one thread for each device all of them can be held by collectives that wait for another device, and without the
order of collectives, which a program loses in the compilation cache, nearly always are.
"""

import os
import sys
from pathlib import Path

import jax

from segjax import parallel
from tests.training import fake_network

parallel.setup(platform="cpu")
assert "NPROC" not in os.environ
if sys.platform == "linux" and os.cpu_count() < 8:
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert sum("XLAEigen" in name for name in names) >= 64, names

mesh = parallel.make_mesh({"data": 2, "space": 4})  # its borders and its sums travel in groups of different devices
step, state = fake_network.setup(constrain=parallel.constrain_images(mesh))
step = jax.jit(step, out_shardings=parallel.replicated(mesh))
state = jax.device_put(state, parallel.replicated(mesh))
batch = parallel.shard_batch(fake_network.batch(), mesh)
for _ in range(3):
    state, metrics = step(state, batch, {})
jax.block_until_ready(metrics)
