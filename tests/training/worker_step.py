"""One process of test_step.py: python -m tests.training.worker_step ADDRESS INDEX OUTPUT."""

import sys

import jax
import numpy as np

from segjax import parallel
from tests.training import fake_network


def main(address: str, index: str, output: str) -> None:
    parallel.setup(platform="cpu", coordinator=address, num_processes=2, process_id=int(index))
    mesh = parallel.make_mesh({"data": -1})
    part, parts = parallel.batch_part(mesh)
    step, state = fake_network.setup(constrain=parallel.constrain_images(mesh))
    rows = fake_network.BATCH // parts
    batch = {name: x[part * rows : (part + 1) * rows] for name, x in fake_network.batch().items()}
    before = jax.device_get(state.params)
    state = jax.jit(lambda x: x, out_shardings=parallel.replicated(mesh))(jax.tree.map(np.asarray, state))
    step = jax.jit(step, out_shardings=parallel.replicated(mesh))
    state, metrics = step(state, parallel.shard_batch(batch, mesh), {})
    params, statistics, metrics = parallel.fetch_replicated((state.params, state.batch_stats, metrics))
    size = {"param_norm": metrics.pop("param_norm")}
    leaves = jax.tree.leaves((jax.tree.map(lambda a, b: a - b, before, params), statistics, metrics, size))
    np.savez(output, **{str(n): x for n, x in enumerate(leaves)})


if __name__ == "__main__":
    main(*sys.argv[1:])
