"""The option bn_groups: batch norms that normalise groups of images by their own statistics, in whole networks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models, parallel
from segjax.costs.collectives import collectives
from segjax.errors import UserError
from segjax.models.backbones import densenet
from segjax.models.layers import BatchNorm, norm_of_means
from segjax.ops import for_platform
from tests.models.test_remat import THIN
from tests.parity_tools import formula_variables
from tests.tiny_network import Tiny

slow = pytest.mark.slow


def test_running_statistics_are_means_over_the_groups():
    """Of means and unbiased variances, by PyTorch's rule: each group of 2 images of 3 values."""
    x = np.random.default_rng(0).standard_normal((6, 3, 1, 4)).astype(np.float32) + 10 * np.arange(6).reshape(
        6, 1, 1, 1
    )
    norm = BatchNorm(train=True, momentum=0.25, groups=3)
    variables = norm.init(jax.random.key(0), jnp.zeros((1, 3, 1, 4)))  # one image is no error before training
    y, new = norm.apply(variables, jnp.asarray(x), mutable=["batch_stats"])
    groups = x.astype(np.float64).reshape(3, 6, 4)
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.25 * groups.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.75 + 0.25 * groups.var(1, ddof=1).mean(0), rtol=1e-5)
    wanted = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, wanted.reshape(x.shape), rtol=1e-4, atol=1e-5)


def test_groups_of_one_mean_use_the_running_statistics():
    norm = partial(BatchNorm, train=True, groups=4)
    assert norm_of_means(norm, 4)().train is False
    assert norm_of_means(norm, 8)().train and norm_of_means(partial(BatchNorm, train=True), 4)().train
    x = jnp.arange(8.0).reshape(4, 1, 1, 2)
    variables = norm().init(jax.random.key(0), x)
    y, new = norm_of_means(norm, 4)().apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, x, rtol=1e-4)
    assert not new or not new["batch_stats"]["mean"].any()


def test_a_batch_that_cannot_be_divided_is_a_sentence():
    images = jax.ShapeDtypeStruct((6, 64, 64, 3), jnp.float32)
    for name, options in (("fastscnn", {}), ("ldn121", THIN)):
        module = models.create(name, 3, bn_groups=4, remat=True, **options)
        variables = jax.eval_shape(module.init, jax.random.key(0), images)
        with pytest.raises(
            UserError, match="^bn_groups=4 does not divide a batch of 6 images; make the batch a multip"
        ):
            jax.eval_shape(partial(module.apply, train=True, mutable=True, rngs=rng()), variables, images)


def rng():
    return {"dropout": jax.random.key(0)}


def applied(module, variables, images, *, train=True):
    return module.apply(variables, images, train=train, mutable=["batch_stats"], rngs=rng())


def test_networks_that_would_ignore_groups_refuse_them():
    images = jnp.zeros((2, 65, 65, 3))
    with pytest.raises(UserError, match="bn_groups=2 has no effect with frozen_bn=True"):
        models.create("deeplabv2_r101", 3, bn_groups=2).init(jax.random.key(0), images)
    with pytest.raises(UserError, match="video network 'sdcnet2d' has no option 'bn_groups'"):
        models.create_video("sdcnet2d", bn_groups=2)
    warp = models.create_propagation("warp", 3, flow="flownets", bn_groups=2)
    with pytest.raises(UserError, match="bn_groups=2: warp with flow='flownets' has no batch norm"):
        jax.eval_shape(warp.init, jax.random.key(0), *models.FAMILIES["propagation"].inputs(warp))
    with pytest.raises(UserError, match="bn_groups=0 of fastscnn must be 1 or more"):
        models.create("fastscnn", 3, bn_groups=0)


@pytest.mark.parametrize(
    "name", ["warp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gsvnet", "a_lite"))]
)
def test_propagation_networks_have_groups_in_all_their_norms(name):
    """A program for groups of two images is that of the batch of two images, next to each other."""
    rng = np.random.default_rng(0)
    module = models.create_propagation(name, 3, **({"feature_channels": 4} if name == "a_lite" else {}))
    state, *_ = models.FAMILIES["propagation"].inputs(module)
    state = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal((4, *x.shape[1:])), jnp.float32), state)
    images = [jnp.asarray(rng.standard_normal((4, 64, 64, 3)), jnp.float32) for _ in range(2)]
    variables = formula_variables(module, inputs=models.FAMILIES["propagation"].inputs(module))

    def run(groups, state, images):
        own = module.clone(bn_groups=groups)
        return jax.jit(partial(own.apply, train=True, mutable=["batch_stats"]))(variables, state, *images)

    whole, statistics = run(2, state, images)
    halves = [run(1, *jax.tree.map(lambda x, part=part: np.split(x, 2)[part], (state, images))) for part in range(2)]
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda ours, *theirs: close(ours, np.concatenate(theirs)), whole, *(half[0] for half in halves))
    jax.tree.map(lambda ours, a, b: close(ours, (a + b) / 2), statistics, *(half[1] for half in halves))


def gradients(module, variables, images):
    """Gradients of parameters and images, logits, and new statistics; dropout is off."""

    def loss(params, images):
        output, new = module.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"], rngs=rng()
        )
        return jnp.sum(jnp.sin(output.logits)), (output.logits, new["batch_stats"])

    (dparams, dimages), (logits, statistics) = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], images)
    return {"maps": (dimages, logits), "end": (dparams, statistics)}


@pytest.fixture
def tiny():
    """(network of 4 groups, variables, 8 images), in float64."""
    module = Tiny(3, dtype="float64", bn_groups=4)
    images = np.random.default_rng(0).standard_normal((8, 16, 24, 3))
    with jax.enable_x64(True):
        yield module, jax.tree.map(np.float64, formula_variables(module)), images


def test_devices_do_not_change_the_result(tiny):
    """One, as many as groups, more than groups, and with images that several devices share."""
    module, variables, images = tiny
    expected = jax.jit(partial(gradients, module))(variables, images)
    for axes in ({"data": 4}, {"data": 8}, {"data": 2, "space": 4}):
        mesh = parallel.make_mesh(axes, jax.devices()[: int(np.prod(list(axes.values())))])
        spread = jax.device_put(images, parallel.batch_sharding(mesh, 4, space_axis=1))
        whole = jax.device_put(variables, parallel.replicated(mesh))
        found = jax.jit(partial(gradients, module))(whole, spread)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected)
    other = jax.jit(partial(gradients, module.clone(bn_groups=1)))(variables, images)
    assert np.abs(other["maps"][1] - expected["maps"][1]).max() > 0.1


@pytest.mark.parametrize("of", ["cpu", "tpu"])
def test_with_a_group_on_each_device_no_map_waits_for_a_message(tiny, of):
    """Forward and backward; gradients of parameters and running statistics are sent together at the end."""
    module, variables, images = tiny
    mesh = parallel.make_mesh({"data": 4}, jax.devices()[:4])
    spread, whole = parallel.batch_sharding(mesh, 4), parallel.replicated(mesh)
    image, leaves = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at),
        (images, variables), (spread, jax.tree.map(lambda x: whole, variables)),
    )  # fmt: skip

    def messages(groups, pick, out):
        step = for_platform(lambda *a: pick(gradients(module.clone(bn_groups=groups), *a)), of)
        return collectives(jax.jit(step, out_shardings=out).lower(leaves, image).compile().as_text())

    assert messages(4, lambda found: found["maps"], (spread, spread)) == []
    forward, norms = {"cpu": 2, "tpu": 1}[of], 3
    assert len(messages(1, lambda found: found["maps"], (spread, spread))) >= (forward + 1) * (norms - 1)
    assert len(messages(4, lambda found: found, {"maps": (spread, spread), "end": whole})) == 1


def test_dense_blocks_in_one_buffer_are_told_the_running_means(monkeypatch):
    module = models.create("ldn121", 3, remat="layer", **THIN)
    variables = formula_variables(module)
    found, block = [], densenet.dense_block

    def told(x, layers, keys, near, settings):
        found.extend(mean for layer in near for mean in layer if mean is not None)
        return block(x, layers, keys, near, settings)

    monkeypatch.setattr(densenet, "dense_block", told)
    jax.eval_shape(lambda x: applied(module, variables, x), jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32))
    stored = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["batch_stats"])
        if "denselayer" in str(path) and "mean" in str(path)
    ]
    assert len(found) == len(stored) > 8
    assert {np.asarray(mean).tobytes() for mean in found} == {np.asarray(mean).tobytes() for mean in stored}
