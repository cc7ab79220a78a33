import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from segjax.errors import UserError
from segjax.parallel import make_mesh, replicated
from segjax.training.optimizer import make_optimizer, trainable

CASES = {  # file -> optimizer settings, parity/ops/spec.json
    "opt_sgd": dict(name="sgd", lr=0.1, momentum=0.9),
    "opt_sgd_nesterov": dict(name="sgd", lr=0.1, momentum=0.9, nesterov=True),
    "opt_adam": dict(name="adam", lr=0.01, b1=0.9, b2=0.99),
    "opt_amsgrad": dict(name="amsgrad", lr=0.01, b1=0.9, b2=0.999),
}


def constant(lr):
    return lambda step: jnp.float32(lr)


def run(optimizer, params, gradients):
    """The parameters after each step."""
    state, trajectory = optimizer.init(params), []

    @jax.jit
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for grads in gradients:
        params, state = step(params, state, grads)
        trajectory.append(params)
    return trajectory, state


@pytest.mark.parametrize("case", CASES)
def test_trajectory_is_pytorchs(parity, case):
    data = np.load(parity / "ops" / f"{case}.npz")
    options = dict(CASES[case])
    params = {"w": jnp.asarray(data["p0"])}
    optimizer = make_optimizer(
        options.pop("name"), constant(options.pop("lr")), params=params, weight_decay=0.01, **options
    )
    found, _ = run(optimizer, params, [{"w": g} for g in data["grads"]])
    np.testing.assert_allclose(np.stack([p["w"] for p in found]), data["trajectory"], rtol=2e-6, atol=2e-7)


def oracle(name, w, grads, *, lr, wd, momentum=0.9, nesterov=False, b1=0.9, b2=0.999, eps=1e-8):
    """The update of torch.optim's documentation in float64."""
    w, out = np.asarray(w, np.float64), []
    m = v = vmax = np.zeros_like(w)
    for t, g in enumerate(np.asarray(grads, np.float64), 1):
        if name == "adamw":
            w = w * (1 - lr * wd)
        else:
            g = g + wd * w
        if name == "sgd":
            m = momentum * m + g
            w = w - lr * (g + momentum * m if nesterov else m)
        else:
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            vmax = np.maximum(vmax, v)
            top = vmax if name == "amsgrad" else v
            w = w - lr / (1 - b1**t) * m / (np.sqrt(top) / np.sqrt(1 - b2**t) + eps)
        out.append(w)
    return np.stack(out)


@pytest.mark.parametrize("name", ["sgd", "adam", "amsgrad", "adamw"])
def test_trajectory_is_the_formula(name):
    rng = np.random.default_rng(0)
    w = rng.normal(size=5).astype(np.float32)
    grads = rng.normal(size=(12, 5)).astype(np.float32) * np.linspace(2, 0.1, 12, dtype=np.float32)[:, None]
    params = {"w": jnp.asarray(w)}
    optimizer = make_optimizer(name, constant(0.02), params=params, weight_decay=0.1)
    found, _ = run(optimizer, params, [{"w": g} for g in grads])
    expected = oracle(name, w, grads, lr=0.02, wd=0.1)
    np.testing.assert_allclose(np.stack([p["w"] for p in found]), expected, rtol=2e-6, atol=1e-6)


def test_plain_sgd_keeps_no_buffer():
    params = {"w": jnp.ones(3)}
    optimizer = make_optimizer("sgd", constant(0.5), params=params, momentum=0.0)
    found, state = run(optimizer, params, [{"w": jnp.ones(3)}])
    np.testing.assert_allclose(found[0]["w"], 0.5)
    assert set(state) == {"count"}


def groups():
    ones = lambda *names: {name: jnp.ones(2) for name in names}  # noqa: E731
    return {"trunk": ones("kernel", "bias"), "neck": ones("kernel"), "head": ones("kernel", "bias")}


@pytest.mark.parametrize("name", ["sgd", "adamw", "amsgrad"])
def test_groups_have_their_own_rate_and_decay(name):
    params = groups()
    rng = np.random.default_rng(1)
    grads = [jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params) for _ in range(4)]
    optimizer = make_optimizer(
        name,
        constant(0.1),
        params=params,
        weight_decay=0.2,
        lr_rules=(("trunk/.*", 0.25), (".*", 1.0)),
        decay_rules=((".*/bias", 0.0), ("head/.*", 2.0), (".*", 1.0)),
    )
    found, _ = run(optimizer, params, grads)
    for part, leaf, rate, decay in (
        ("trunk", "kernel", 0.25, 1), ("trunk", "bias", 0.25, 0), ("neck", "kernel", 1, 1),
        ("head", "kernel", 1, 2), ("head", "bias", 1, 0),
    ):  # fmt: skip
        expected = oracle(name, np.ones(2), [g[part][leaf] for g in grads], lr=0.1 * rate, wd=0.2 * decay)
        np.testing.assert_allclose(found[-1][part][leaf], expected[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("zero", [0, 0.0, None])
def test_frozen_parameters_do_not_move_and_have_no_state(zero):
    params = groups()
    optimizer = make_optimizer(
        "adam", constant(0.1), params=params, weight_decay=0.5, lr_rules=(("trunk/.*", zero), (".*", 1.0))
    )
    found, state = run(optimizer, params, [jax.tree.map(jnp.ones_like, params)] * 2)
    np.testing.assert_array_equal(found[-1]["trunk"]["kernel"], params["trunk"]["kernel"])
    assert (np.asarray(found[-1]["head"]["kernel"]) != 1).all()
    assert set(state["mu"]) == set(state["nu"]) == {"neck", "head"}
    assert trainable(params, (("trunk/.*", zero), (".*", 1.0)))["trunk"] == {"kernel": False, "bias": False}


def test_the_schedule_is_read_at_the_step_before_the_update():
    params = {"w": jnp.zeros(1)}
    optimizer = make_optimizer("sgd", lambda step: jnp.float32(step) + 1.0, params=params, momentum=0.0)
    found, state = run(optimizer, params, [{"w": jnp.ones(1)}] * 3)
    np.testing.assert_allclose([p["w"][0] for p in found], [-1, -3, -6])
    assert int(state["count"]) == 3


def test_clip_norm_is_over_the_trained_parameters_and_before_decay():
    params = {"a": jnp.array([10.0]), "b": jnp.array([0.0]), "frozen": jnp.array([0.0])}
    optimizer = make_optimizer(
        "sgd", constant(1.0), params=params, momentum=0.0, weight_decay=0.1, clip_norm=1.0,
        lr_rules=(("frozen", 0), (".*", 1.0)),
    )  # fmt: skip
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0]), "frozen": jnp.array([1e6])}
    found, _ = run(optimizer, params, [grads])
    np.testing.assert_allclose(found[0]["a"], 10 - 0.6 - 1.0, rtol=1e-5)
    np.testing.assert_allclose(found[0]["b"], -0.8, rtol=1e-5)


def test_init_works_on_shapes_and_under_jit():
    params = groups()
    shapes = jax.eval_shape(lambda: params)
    optimizer = make_optimizer("adamw", constant(0.1), params=shapes)
    state = jax.jit(optimizer.init)(params)
    assert jax.tree.structure(jax.eval_shape(optimizer.init, shapes)) == jax.tree.structure(state)
    assert jax.tree.structure(state["mu"]) == jax.tree.structure(params)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(name="sdg"), "Did you mean 'sgd'"),
        (dict(name="adam", momentum=0.9), "momentum means nothing to 'adam'"),
        (dict(name="sgd", b2=0.9), "b2 means nothing to 'sgd'"),
        (dict(name="sgd", nesterov=True, momentum=0.0), "needs a momentum"),
        (dict(name="sgd", momentum=1.0), "momentum=1.0"),
        (dict(name="sgd", momentum="0.9"), "momentum='0.9' must be a number"),
        (dict(name="sgd", lr_rules=(".*", 1.0)), "every rule is a pair"),
        (dict(name="sgd", weight_decay=-1.0), "weight_decay"),
        (dict(name="sgd", clip_norm=0.0), "clip_norm"),
        (dict(name="sgd", lr_rules=((".*", 0.0),)), "freezes every parameter"),
        (dict(name="sgd", lr_rules=((".*", "fast"),)), "'fast'"),
        (dict(name="sgd", lr_rules=((".*", -1.0),)), "lr_rules"),
        (dict(name="sgd", decay_rules=(("nck/.*", 1.0), (".*", 1.0))), "decay_rules.*Did you mean 'neck'"),
    ],
)
def test_wrong_settings_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        make_optimizer(schedule=constant(0.1), params=groups(), **changes)


@pytest.mark.parametrize("name, options", [("amsgrad", {}), ("sgd", {}), ("sgd", {"momentum": 0.0})])
def test_state_goes_through_a_checkpoint_to_other_devices(tmp_path, name, options):
    params = {"layer1.0": groups(), "head": {"kernel": jnp.arange(8.0)}}
    optimizer = make_optimizer(
        name, constant(0.1), params=params, lr_rules=((".*/trunk/.*", 0.0), (".*", 1.0)), **options
    )
    _, state = run(optimizer, params, [jax.tree.map(jnp.ones_like, params)] * 2)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        sharding = replicated(make_mesh({"data": 4}))
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), jax.eval_shape(optimizer.init, params)
        )
        found = checkpointer.restore(tmp_path / "state", like)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, found, state)
    assert int(found["count"]) == 2
