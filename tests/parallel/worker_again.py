"""Three training steps on 8 CPU devices in a process of its own, for test_distributed.py."""

import jax

from segjax import parallel
from tests.training import fake_network

parallel.setup(platform="cpu")
mesh = parallel.make_mesh({"data": 2, "space": 4})  # its borders and its sums travel in groups of different devices
step, state = fake_network.setup(constrain=parallel.constrain_images(mesh))
step = jax.jit(step, out_shardings=parallel.replicated(mesh))
state = jax.device_put(state, parallel.replicated(mesh))
batch = parallel.shard_batch(fake_network.batch(), mesh)
for _ in range(3):
    state, metrics = step(state, batch)
jax.block_until_ready(metrics)
