"""Two processes with two devices each see the same matrix and the same worst images as one device."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import sys
import jax
import numpy as np

jax.config.update("jax_cpu_collectives_implementation", "gloo")
port, process, axes = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
jax.distributed.initialize(f"localhost:{port}", 2, process)
from segjax import parallel
from segjax.evaluation import evaluate

mesh = parallel.make_mesh(axes)
part, parts = parallel.batch_part(mesh)
data = np.load(sys.argv[4])


def batches():
    for start in range(0, 20, 4):
        rows = np.arange(start, start + 4).reshape(parts, -1)[part]
        weight = np.ones(len(rows), np.float32)
        yield {"image": data["image"][rows], "label": data["label"][rows], "weight": weight, "record": rows}


seen = {}
result = evaluate(
    jax.jit(lambda images: images[..., 0]),
    batches(),
    num_classes=4,
    worst=4,
    sharding=parallel.batch_sharding(mesh, 4, space_axis=1),
    observe=lambda record, *maps: seen.setdefault(record, maps),
)
np.savez(sys.argv[5], matrix=result.matrix, worst=[w.record for w in result.worst],
         images=np.stack([w.image for w in result.worst]), seen=np.stack([seen[record] for record in range(20)]))
"""


@pytest.mark.parametrize("axes", [{"data": 4}, {"data": 1, "space": 4}])
def test_two_processes(tmp_path, root, axes):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, (20, 12, 16)).astype(np.uint8)
    image = np.repeat(label[..., None], 3, -1)
    for i in range(20):  # the later, the worse
        wrong = rng.random((12, 16)) < i / 24
        image[i][wrong] = (image[i][wrong] + 1) % 4
    np.savez(tmp_path / "data.npz", image=image, label=label)
    want = np.zeros((4, 4), np.int64)
    np.add.at(want, (label.ravel(), image[..., 0].ravel()), 1)

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "NPROC": "16",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port), str(i), str(axes), tmp_path / "data.npz", tmp_path / f"{i}.npz"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    try:
        for process in processes:
            output = process.communicate(timeout=300)[0]
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    for i in range(2):
        result = np.load(tmp_path / f"{i}.npz")
        np.testing.assert_array_equal(result["matrix"], want)
        np.testing.assert_array_equal(result["images"], image[result["worst"]])
        np.testing.assert_array_equal(result["seen"], np.stack([image[..., 0], label], 1))  # every host sees all
        assert set(result["worst"]) <= set(range(12, 20)) and len(result["worst"]) == 4
