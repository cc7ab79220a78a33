"""Losses of a batch on 1 and on 8 devices: the same numbers, and no communication but sums."""

import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.losses import (
    boundary_aware_cross_entropy,
    cross_entropy,
    model_regulariser,
    ohem_cross_entropy,
    relaxed_cross_entropy,
    soft_target_cross_entropy,
    top_k_cross_entropy,
)
from segjax.typing import Sum
from tests import loss_oracles as oracle
from tests.processes import QUICK_TO_COMPILE

B, H, W, K = 8, 16, 20, 5
SMALL = 16  # numbers; a map of losses has far more


def coarse(logits, labels, **options):
    return soft_target_cross_entropy(logits[:, ::4, ::4], labels, **options)


def two_classes(logits, labels, **options):
    ids = jax.numpy.stack([labels, (labels + 1) % K], axis=-1)
    return top_k_cross_entropy(logits, labels, ids, jax.numpy.float32([0.6, 0.3]) * (ids < K), **options)


LOSSES = {
    "cross_entropy": cross_entropy,
    "weighted": functools.partial(cross_entropy, upper_bound=1.0, weight_mode="image_mean"),
    "relaxed": relaxed_cross_entropy,
    "relaxed per image": functools.partial(relaxed_cross_entropy, mode="per_image", upper_bound=1.0),
    "second phase": functools.partial(relaxed_cross_entropy, off_epoch=-1, upper_bound=1.0),
    "reference": functools.partial(relaxed_cross_entropy, mode="reference", images_per_device=1, upper_bound=1.0),
    "ohem": functools.partial(ohem_cross_entropy, threshold=0.001, min_kept=0.5),
    "ohem per image": functools.partial(ohem_cross_entropy, threshold=0.001, min_kept=0.5, images_per_device=1),
    "soft targets": coarse,
    "boundary aware": functools.partial(boundary_aware_cross_entropy, distances=(2, 4, 8)),
    "top k": two_classes,
    "regulariser": model_regulariser,
}


# Without LLVM's optimisations one device adds up 2560 numbers one after the other, which is less exact than 1e-6
AS_USERS_RUN_IT = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
if "fusion_emitters" in QUICK_TO_COMPILE:
    AS_USERS_RUN_IT["xla_cpu_use_fusion_emitters"] = True


def case():
    labels = oracle.blocks(0, (B, H, W), classes=K)
    labels[0] = 255  # devices with different numbers of valid pixels
    return oracle.noise(0, (B, H, W, K)), labels


@functools.cache
def on_one_device(name):
    """(value, gradient) of a loss."""
    step = jax.value_and_grad(lambda x, y: LOSSES[name](x, y).mean())
    return jax.device_get(jax.jit(step, compiler_options=AS_USERS_RUN_IT)(*case()))


def collectives(text):
    """(name, shape of one result) of every collective operation in compiled HLO."""
    found = []
    names = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    for line in text.splitlines():
        match = re.search(rf"= (.*?) ({names})(?:-start)?\(", line)
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            found += [(match[2], tuple(int(n) for n in shape.split(",") if n)) for shape in shapes]
    return found


def place(axes, array):
    shape = tuple(axes.values())
    mesh = jax.make_mesh(shape, tuple(axes), axis_types=(AxisType.Auto,) * len(shape))
    return jax.device_put(array, NamedSharding(mesh, P(*axes)))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 2, "space": 4}], ids=["batch", "batch and height"])
def test_same_numbers_with_sums_only(name, axes):
    logits, labels = case()
    step = jax.value_and_grad(lambda x, y: LOSSES[name](x, y).mean())
    value, gradient = on_one_device(name)
    spread = place(axes, logits), place(axes, labels)
    compiled = jax.jit(step, compiler_options=AS_USERS_RUN_IT).lower(*spread).compile()
    got, got_gradient = compiled(*spread)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(got_gradient, gradient, atol=1e-7)
    assert got_gradient.sharding.is_equivalent_to(spread[0].sharding, 4)

    used = collectives(compiled.as_text())
    assert used
    for operation, shape in used:
        if name == "boundary aware" and "space" in axes:  # distances run through whole images: of labels, not logits
            assert np.prod(shape) <= B * H * W, (operation, shape)
        elif operation == "collective-permute":  # rows of class sets from the neighbour above and below
            assert "space" in axes and shape[-1] == W and shape[-2] <= 3, (operation, shape)
        else:
            assert operation == "all-reduce" and np.prod(shape) <= SMALL * B / 2, (operation, shape)


def test_the_test_sees_a_gather():
    spread = place({"data": 8}, case()[0])
    text = jax.jit(lambda x: jax.numpy.sort(x.reshape(-1))).lower(spread).compile().as_text()
    assert any(np.prod(shape) > SMALL * B for _, shape in collectives(text))


@pytest.mark.parametrize("name", ["cross_entropy", "relaxed", "ohem", "boundary aware"])
def test_losses_work_inside_shard_map(name):
    logits, labels = case()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def per_device(x, y):
        total = LOSSES[name](x, y)
        return Sum(jax.lax.psum(total.value, "data"), jax.lax.psum(total.count, "data"))

    island = jax.shard_map(per_device, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=True)
    value, gradient = jax.jit(jax.value_and_grad(lambda x, y: island(x, y).mean()))(logits, labels)
    wanted, wanted_gradient = on_one_device(name if name != "ohem" else "ohem per image")  # one image a device here
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-7)
