"""What every network in MODELS must do; a new network is tested by being there.

Shapes and types are looked at by abstract evaluation, which takes less than seconds. EXECUTED networks, which compile
quickly, are run as well; all others are with `-m slow`. So are deeper and wider trunks of LIGHTEST networks where the
shapes of one evaluation do not prove it.
"""

import sys
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax import models, ops
from segjax.errors import UserError
from segjax.training.state import TrainState
from segjax.training.step import make_train_step
from segjax.training.terms import LossTerm
from segjax.training.update import make_update
from segjax.typing import SegOutput, Sum
from tests.networks import DEEP, LIGHTEST, SIZE, every, shapes, size_of, traced
from tests.parity_tools import formula_variables

EXECUTED = ("bisenet_r18", "fastscnn")
OTHER = (2, 96, 130)  # several images of another size
# pad or resize by the size of the images; the others only evaluate SIZE unless slow tests run, and train OTHER
RESIZED = ("bisenet_r18_coincheung", "fastscnn", "icnet_r50", "pspnet_r50", "swiftnet_r18_pyramid")
FROZEN = ("deeplabv2_r101",)  # published with frozen batch norm


def images(batch=2):
    return jnp.asarray(np.random.default_rng(0).standard_normal((batch, *SIZE, 3)), jnp.float32)


def shaped(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@lru_cache(4)  # of all networks they would take gigabytes
def variables(name):
    """Formula weights (no program to compile); small BatchNorm weights keep deep networks tame."""
    return formula_variables(models.create(name, 5), small=".*")


def train_apply(module, variables, x):
    return module.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})


def train_loss(params, name, remat):
    module = models.create(name, 5, remat=remat)
    output, new = train_apply(module, variables(name) | {"params": params}, images())
    heads = [output.logits, *output.aux.values()]
    return sum(jnp.sum(jnp.sin(head)) for head in heads), new["batch_stats"]


@lru_cache(4)
def gradients(name, remat):
    """(gradients, new batch statistics)."""
    grad = jax.jit(jax.grad(train_loss, has_aux=True), static_argnums=(1, 2))
    return jax.device_get(grad(variables(name)["params"], name, remat))


@every([name for name in models.names() if name not in DEEP])
def test_any_size_gives_float32_logits_at_that_size(name):
    """One image of odd size; and the published loss weights name the heads."""
    output, _ = traced(name)
    check_output(name, output, (1, *size_of(name)))
    low = output.features["low.logits"]  # the logits before the last enlargement are kept
    assert low.dtype == jnp.float32 and low.ndim == 4
    assert low.shape[0] == 1 and low.shape[3] == 5
    assert low.shape[1] <= output.logits.shape[1] and low.shape[2] <= output.logits.shape[2]


@every(RESIZED)
def test_several_images_of_another_size_in_evaluation(name):
    output = jax.eval_shape(partial(models.create(name, 5).apply, train=False), shapes(name), shaped(*OTHER, 3))
    check_output(name, output, OTHER)


def check_output(name, output, shape):
    assert isinstance(output, SegOutput)
    assert output.logits.shape == (*shape, 5)
    assert all(head.dtype == jnp.float32 for head in (output.logits, *output.aux.values()))
    assert all(head.shape[0] == shape[0] for head in output.aux.values())
    check_loss_weights(models.create(name, 5), output)


def check_loss_weights(module, output):
    assert set(module.loss_weights) == {"logits", *output.aux}
    assert all(weight > 0 for weight in module.loss_weights.values())


@every(LIGHTEST)
def test_training_keeps_the_types_and_remat_is_used(name, monkeypatch):
    """bfloat16 with float32 variables, statistics and heads; remat in the program; the variables fit every option.

    On several images of another size than that of the variables; norms of the batch have the groups of the option.
    """
    groups = {} if name in FROZEN else {"bn_groups": OTHER[0]}
    module = models.create(name, 5, dtype="bfloat16", remat="full", bn_momentum=0.05, bn_eps=1e-3, **groups)
    base, seen = shapes(name), []

    def norm(*arguments):
        seen.append(arguments[-1])
        return ops.batch_norm(*arguments)

    for room in ("models.layers", "ops.dense_block"):
        monkeypatch.setattr(f"segjax.{room}.batch_norm", norm)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(base))
    closed, (output, new) = jax.make_jaxpr(partial(train_apply, module), return_shape=True)(base, shaped(*OTHER, 3))
    assert any("remat" in equation.primitive.name for equation in closed.eqns)
    check_output(name, output, OTHER)
    assert set(seen) == set(groups.values())
    assert jax.tree.map(lambda a: (a.shape, a.dtype), new["batch_stats"]) == jax.tree.map(
        lambda a: (a.shape, a.dtype), base["batch_stats"]
    )
    low = {key: leaf for key, leaf in output.features.items() if key.startswith("low.")}
    assert "low.logits" in low
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((output.logits, output.aux, low)))


@every(LIGHTEST, [name for name in models.names() if "aux" in models.options(name)])
def test_auxiliary_heads_come_and_go_with_their_loss_weights(name):
    other = not models.options(name)["aux"]
    for options, aux in (({}, not other), ({"aux": other}, other)):
        output, _ = traced(name, **options)
        check_loss_weights(models.create(name, 5, **options), output)
        assert bool(output.aux) == aux


@every()
def test_common_options_exist(name):
    wanted = {"dtype": "float32", "bn_momentum": None, "bn_eps": None, "bn_groups": 1, "remat": False, "dropout": None}
    known = models.options(name)
    assert not set(wanted) - set(known)
    assert all(known[key] == value for key, value in wanted.items() if value is not None)


@pytest.mark.parametrize("name", ["deeplabv3plus_r18", "deeplabv3plus_r50_mmseg", "hrnet_w18_ocr", "pspnet_r50"])
def test_align_corners_reaches_every_resize_of_a_map(name, monkeypatch):
    """Weights that were trained with the other value need all of them changed. One pixel has no corners."""
    asked = []

    def resize(x, size, *, align_corners=False, **rest):
        if x.shape[1:3] not in ((1, 1), tuple(size)):
            asked.append(align_corners)
        return ops.resize(x, size, align_corners=align_corners, **rest)

    for module in [m for key, m in sys.modules.items() if key.startswith("segjax.models.") and hasattr(m, "resize")]:
        monkeypatch.setattr(module, "resize", resize)
    for value in (True, False):
        asked.clear()
        network = models.create(name, 5, align_corners=value)
        jax.eval_shape(partial(network.init_with_output, train=False), jax.random.key(0), shaped(1, 65, 97, 3))
        assert asked and set(asked) == {value}


@every()
def test_images_that_are_none_are_refused(name):
    module = models.create(name, 5)
    for x, text in (
        (shaped(1, *SIZE, 4), "4 channels"),
        (shaped(1, *SIZE, 1), "1 channels"),
        (shaped(1, *SIZE, 3, dtype=jnp.uint8), "uint8; normalise"),
        (shaped(*SIZE, 3), "no batch"),
        (shaped(1, 0, 8, 3), "too small"),
        (shaped(0, *SIZE, 3), "too small"),
    ):
        with pytest.raises(UserError, match=text):  # before any variable is looked at
            jax.eval_shape(partial(module.apply, train=False), {}, x)


@every(LIGHTEST)
def test_the_smallest_images_work_or_are_refused_with_the_limit(name):
    module = models.create(name, 5)
    try:
        output = jax.eval_shape(partial(module.apply, train=False), shapes(name), shaped(1, 1, 2, 3))
    except UserError as error:
        assert "or more" in str(error) and "1x2" in str(error)
    else:
        assert output.logits.shape == (1, 1, 2, 5)


@every(EXECUTED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_evaluation_of_one_image_is_finite(name, dtype):
    module = models.create(name, 5, dtype=dtype)
    output = jax.jit(partial(module.apply, train=False))(variables(name), images(1))
    for head in (output.logits, *output.aux.values()):
        assert np.isfinite(head).all() and float(head.std()) > 0


@every(EXECUTED)
def test_training_changes_every_statistic_and_reaches_every_parameter(name):
    grads, stats = gradients(name, False)
    flat = jax.tree_util.tree_leaves_with_path
    for (path, before), (_, after) in zip(flat(variables(name)["batch_stats"]), flat(stats)):
        assert np.isfinite(after).all() and np.array_equal(before, after) == (name in FROZEN), path
    for path, grad in flat(grads):
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0, path


@every(EXECUTED)
def test_remat_changes_memory_and_nothing_else(name):
    """Also not the statistics, although every block runs twice, nor the dropout mask."""
    (plain, stats), (remat, remat_stats) = gradients(name, False), gradients(name, "full")
    largest = max(np.abs(g).max() for g in jax.tree.leaves(plain))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat)):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4 * largest)
    for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(remat_stats)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@every(["bisenet_r18"])
def test_a_training_step_on_4_devices(name):
    """Every head under its published weight, images spread over the devices: a finite loss and new parameters."""
    module = models.create(name, 5)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    spread, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def mean_sine(logits, labels, *, epoch):
        return Sum(jnp.sum(jnp.sin(logits)), jnp.float32(logits.size))

    terms = tuple(
        LossTerm(head, mean_sine, weight, on=head, resize=False) for head, weight in module.loss_weights.items()
    )
    optimizer = optax.sgd(0.1)
    step = make_train_step(
        module.apply,
        terms,
        make_update(optimizer, lambda step: 0.1),
        lambda batch, frozen: (batch["image"], {"labels": batch["label"]}),
        seed=0,
    )
    x = np.concatenate([np.roll(images(), i, 1) for i in range(2)])
    batch = {"image": x, "label": np.zeros((4, *SIZE), np.int32), "epoch": np.zeros(4, np.int32)}
    first = variables(name)
    state = TrainState(jnp.int32(0), first["params"], first["batch_stats"], optimizer.init(first["params"]), None)
    state, batch = jax.device_put(state, everywhere), jax.device_put(batch, spread)
    new, metrics = jax.jit(step)(state, batch, {})
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.batch_stats))
    assert any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(new.params), jax.tree.leaves(first["params"])))
