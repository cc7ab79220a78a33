"""One of two processes of test_distributed.py: address, count, index -> one line of JSON."""

import json
import sys

import numpy as np

from segjax import parallel
from segjax.errors import UserError

address, count, index = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
parallel.setup(platform="cpu", coordinator=address, num_processes=count, process_id=index, min_devices=4)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

x = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
result = {"devices": [jax.device_count(), jax.local_device_count()]}

mesh = parallel.make_mesh({"data": -1})
part, parts = parallel.batch_part(mesh)
rows = x[part * 8 // parts : (part + 1) * 8 // parts]
batch = parallel.shard_batch({"x": rows}, mesh)
assert batch["x"].shape == (8, 3)
shards = sorted(batch["x"].addressable_shards, key=lambda shard: shard.index[0].start)
result |= {"part": [part, parts], "rows": np.concatenate([shard.data for shard in shards]).tolist()}


def loss(w, batch):
    return jnp.mean(jnp.sum(2 * batch["x"] * w, axis=1))


w = jax.device_put(np.zeros(3, np.float32), parallel.replicated(mesh))
gradient = jax.jit(jax.grad(loss), out_shardings=parallel.replicated(mesh))(w, batch)
result["gradient"] = parallel.fetch_replicated(gradient).tolist()
psum = jax.jit(jax.shard_map(lambda x: jax.lax.psum(x.sum(0), "data"), mesh=mesh, in_specs=P("data"), out_specs=P()))
result["psum"] = parallel.fetch_replicated(psum(batch["x"])).tolist()

# the height of every row is split over both processes, so both load every row
mesh = parallel.make_mesh({"data": 1, "space": -1})
batch = parallel.shard_batch({"x": x.reshape(2, 4, 3)}, mesh)["x"]
split = jax.jit(lambda x: jax.lax.with_sharding_constraint(x, parallel.batch_sharding(mesh, 3, space_axis=1)).mean())
result["space_part"] = parallel.batch_part(mesh)
result["space_mean"] = float(parallel.fetch_replicated(split(batch)))

try:
    parallel.make_mesh({"data": 2})
except UserError as error:
    result["uneven"] = str(error)
result["from_first"] = [parallel.from_first(f"é{index}" * index), parallel.from_first(f"é{index}")]
result["in_all"] = [parallel.in_all(True), parallel.in_all(index == 0), parallel.in_all(False)]
print(json.dumps(result))
