"""The costs that a training logs before its first step."""

import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from segjax.costs import program
from segjax.costs.chips import CHIPS
from segjax.costs.program import in_units, log_step_costs, network_flops, program_costs
from segjax.data import Bucket
from segjax.parallel import make_mesh

SPEC = {"name": "fastscnn", "num_classes": 3, "options": {"dtype": "bfloat16", "remat": "full"}}


def useful_flops(bucket):
    return network_flops(SPEC, bucket.crop, trains=True)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 8})


@pytest.fixture(scope="module")
def compiled(mesh):
    """The product of (16, 64) by (64, 32), summed over rows that 8 devices share."""
    x = jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data")))
    w = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec()))
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda x, w: (x @ w).sum(0), out_shardings=whole).lower(x, w).compile()


def test_costs_are_those_of_one_device(compiled):
    costs = program_costs(compiled, devices=8, platform="cpu")
    assert 2 * 2 * 64 * 32 <= costs.flops <= 2.1 * 2 * 64 * 32
    assert costs.accessed >= 4 * (2 * 64 + 64 * 32)
    assert costs.collectives["all-reduce"].payload == 32 * 4 and costs.sent == 2 * 7 / 8 * 32 * 4


def test_a_backend_that_does_not_count_costs_nothing():
    def refuse():
        raise NotImplementedError

    for silent in (refuse, lambda: None):
        costs = program_costs(SimpleNamespace(cost_analysis=silent), devices=1, platform="cpu")
        assert (costs.flops, costs.accessed, costs.sent) == (0, 0, 0)


def test_the_flops_of_a_network_do_not_depend_on_what_is_computed_again():
    found = network_flops({**SPEC, "num_classes": 19}, (1024, 2048), trains=True)
    assert found == pytest.approx(3 * 2 * 6.71e9, rel=0.02)  # Tramac/Fast-SCNN-pytorch, see costs/published.py


def test_a_training_logs_what_a_step_costs(compiled, mesh, caplog):
    with caplog.at_level(logging.INFO, "segjax"):
        log_step_costs(compiled, Bucket((64, 96), 16), mesh=mesh, spec=SPEC, useful=useful_flops)
    assert "one step on each device:\nFLOPs of a device" in caplog.text
    assert "all-reduce         1, together 128 B, of which a device sends 224 B" in caplog.text
    assert "largest message    all-reduce, f32[32] of " in caplog.text
    assert "at least" not in caplog.text  # no figures of a CPU are published


def test_on_a_known_chip_it_logs_bounds(compiled, mesh, caplog, monkeypatch):
    monkeypatch.setattr(program, "chip_of", lambda kind: CHIPS["v5e"])
    with caplog.at_level(logging.INFO, "segjax"):
        log_step_costs(compiled, Bucket((64, 96), 16), mesh=mesh, spec=SPEC, useful=useful_flops, unit="snippets")
    useful = network_flops(SPEC, (64, 96), trains=True) * 2 / CHIPS["v5e"].flops
    assert f"at least, by flops   {useful * 1e3:,.2f} ms" in caplog.text
    assert "latency              1 all-reduces of less than 64 KiB will dominate" in caplog.text
    assert "with model.options.bn_groups=8 batch norms send nothing along the axis data" in caplog.text
    assert "limited by flops of cpu" in caplog.text and "MFU at most          100 %" in caplog.text
    assert "\nsnippets/s at most   " in caplog.text


@pytest.mark.parametrize("size, text", [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB")])
def test_bytes_in_units(size, text):
    assert in_units(size) == text
