"""Two processes with two devices each see the same matrix and the same worst images as one device."""

import sys

import numpy as np

from tests.processes import run_together

PROGRAM = """
import sys
import jax
import numpy as np

jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, process = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, 2, process)
from segjax import parallel
from segjax.evaluation import evaluate

data = np.load(sys.argv[3])


def batches(part, parts):
    for start in range(0, 20, 4):
        rows = np.arange(start, start + 4).reshape(parts, -1)[part]
        weight = np.ones(len(rows), np.float32)
        yield {"image": data["image"][rows], "label": data["label"][rows], "weight": weight, "record": rows}


for number, axes in enumerate(({"data": 4}, {"data": 1, "space": 4})):
    mesh, seen = parallel.make_mesh(axes), {}
    result = evaluate(
        jax.jit(lambda images: images[..., 0]),
        batches(*parallel.batch_part(mesh)),
        num_classes=4,
        worst=4,
        sharding=parallel.batch_sharding(mesh, 4, space_axis=1),
        observe=lambda record, *maps: seen.setdefault(record, maps),
    )
    np.savez(f"{sys.argv[4]}{number}.npz", matrix=result.matrix, worst=[w.record for w in result.worst],
             images=np.stack([w.image for w in result.worst]), seen=np.stack([seen[record] for record in range(20)]))
"""


def test_two_processes(tmp_path):
    """Once with the batch on all devices, once with the height."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, (20, 12, 16)).astype(np.uint8)
    image = np.repeat(label[..., None], 3, -1)
    for i in range(20):  # the later, the worse
        wrong = rng.random((12, 16)) < i / 24
        image[i][wrong] = (image[i][wrong] + 1) % 4
    np.savez(tmp_path / "data.npz", image=image, label=label)
    want = np.zeros((4, 4), np.int64)
    np.add.at(want, (label.ravel(), image[..., 0].ravel()), 1)

    run_together(
        lambda address, i: [sys.executable, "-c", PROGRAM, address, i, tmp_path / "data.npz", tmp_path / f"{i}-"]
    )
    for process, axes in np.ndindex(2, 2):
        result = np.load(tmp_path / f"{process}-{axes}.npz")
        np.testing.assert_array_equal(result["matrix"], want)
        np.testing.assert_array_equal(result["images"], image[result["worst"]])
        np.testing.assert_array_equal(result["seen"], np.stack([image[..., 0], label], 1))  # every host sees all
        assert set(result["worst"]) <= set(range(12, 20)) and len(result["worst"]) == 4
