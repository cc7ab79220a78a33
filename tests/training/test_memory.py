import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.parallel import batch_sharding, make_mesh, replicated
from segjax.training.memory import MemoryPlan, device_memory, device_peak, log_memory_plan, memory_plan


@pytest.fixture(scope="module")
def step():
    """A compiled step on 8 devices, with shapes instead of arrays."""
    mesh = make_mesh({"data": -1})
    params = {"w": jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=replicated(mesh))}
    batch = {"x": jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=batch_sharding(mesh, 2))}

    def f(params, batch):
        return jax.tree.map(lambda w: w - 0.1 * (batch["x"].T @ jnp.tanh(batch["x"] @ w)), params)

    return jax.jit(f, donate_argnums=0).lower(params, batch).compile(), {"params": params, "batch": batch}


def test_groups_are_what_one_device_holds(step):
    compiled, groups = step
    plan = memory_plan(compiled, groups=groups)
    assert plan.groups == {"params": 64 * 32 * 4, "batch": 16 * 64 * 4 // 8}
    assert plan.program["arguments"] == sum(plan.groups.values())  # XLA counts the same
    assert plan.program["outputs"] < 64 * 32 * 4  # donated
    assert plan.needed == sum(plan.program.values())
    assert plan.limit == device_memory(jax.local_devices()[0]) and plan.fits


def test_the_table_names_every_part(step):
    compiled, groups = step
    lines = memory_plan(compiled, groups=groups).table().splitlines()
    names = [line.rsplit(maxsplit=2)[0].strip() for line in lines]
    assert names == ["arguments", "params", "batch", "outputs", "temporaries", "code", "needed", "device has"]
    assert len({len(line) for line in lines}) == 1


class Silent:
    """An executable of a backend that does not tell."""

    def __init__(self, answer):
        self.answer = answer

    def memory_analysis(self):
        if self.answer is None:
            return None
        raise self.answer


@pytest.mark.parametrize("answer", [None, NotImplementedError(), jax.errors.JaxRuntimeError("UNIMPLEMENTED")])
def test_without_an_analysis_the_groups_are_a_lower_bound(step, answer):
    plan = memory_plan(Silent(answer), groups={**step[1], "ema": np.zeros(3, np.float32)})
    assert plan.program == {} and plan.needed == 64 * 32 * 4 + 512 + 12
    assert "without temporaries" in plan.table()


def test_a_plan_that_does_not_fit_names_what_to_change(caplog):
    with caplog.at_level(logging.INFO, "segjax"):
        log_memory_plan(MemoryPlan({}, {"arguments": 3 * 2**30}, 2**30), name="crop 8x8")
    assert "crop 8x8 needs 3.0 GiB and the device has 1.0 GiB: lower batch_size" in caplog.text


def test_unknown_memory_always_fits():
    assert MemoryPlan({}, {"arguments": 2**60}, None).fits


class Device:
    platform = "gpu"

    def __init__(self, stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats


def test_device_memory_is_the_limit_that_jax_has():
    assert device_memory(Device({"bytes_limit": 123})) == 123
    assert device_memory(Device(None)) is None
    assert device_memory(jax.local_devices()[0]) > 2**27
    assert device_peak(Device({"peak_bytes_in_use": 9})) == 9 and device_peak(Device(None)) is None
