"""The step on snippets: the scan against single calls, which frames get a gradient, teachers, several devices."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models, parallel
from segjax.errors import UserError
from segjax.models.video_segmenter import VideoSegmenter
from segjax.ops import resize
from segjax.ops.platform import for_platform
from segjax.training.optimizer import make_optimizer
from segjax.training.snippet_step import carry, make_snippet_step
from segjax.training.state import create_state
from segjax.training.terms import TermOptions, loss_terms
from segjax.training.update import make_update
from segjax.weights.runs import with_keyframe
from tests.tiny_network import Tiny

K = 5
NETWORK = models.create_propagation("gsvnet", K)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@cache
def network_variables():
    inputs = models.FAMILIES["propagation"].inputs(NETWORK)
    return jax.jit(NETWORK.init)(jax.random.key(0), *inputs)


@pytest.fixture
def variables():
    return network_variables()


def by_hand(variables, state, frames, early):
    """Frame by frame: the first `early` with their norms in evaluation, but for those of the flow network."""
    stats = variables["batch_stats"]
    for t in range(1, frames.shape[1]):
        train = t > early
        params = variables["params"] if train else jax.lax.stop_gradient(variables["params"])
        state, new = NETWORK.apply(
            {"params": params, "batch_stats": stats}, state, frames[:, t], frames[:, t - 1], train=train,
            train_flow=True, mutable=["batch_stats"],
        )  # fmt: skip
        stats = new["batch_stats"]
    return state, stats


@pytest.mark.parametrize("frames, gradient_steps, early, of", [(5, 2, 2, "tpu"), (3, 0, 0, "cpu")])
def test_the_scan_is_single_calls(variables, frames, gradient_steps, early, of):
    images, start, weights = drawn(2, frames, 8, 8, 3), drawn(2, 8, 8, K, seed=1), drawn(2, 8, 8, K, seed=2)

    def total(run, params):
        state, stats = run({**variables, "params": params}, start, images)
        return jnp.sum(weights * state), (state, stats)

    scanned = partial(carry, NETWORK, gradient_steps=gradient_steps)
    single = partial(by_hand, early=early)
    ours = for_platform(jax.value_and_grad(partial(total, scanned), has_aux=True), of)
    (_, ours), gradient = jax.jit(ours)(variables["params"])
    (_, theirs), expected = jax.jit(jax.value_and_grad(partial(total, single), has_aux=True))(variables["params"])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), ours, theirs)
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * largest), gradient, expected)


def test_recomputing_each_frame_changes_nothing(variables):
    module = models.create_propagation("gsvnet", K, remat=True)
    images, start = drawn(2, 3, 8, 8, 3), drawn(2, 8, 8, K, seed=1)

    def total(module, params):
        return jnp.square(carry(module, {**variables, "params": params}, start, images)[0]).sum()

    plain, again = (jax.jit(jax.grad(partial(total, m)))(variables["params"]) for m in (NETWORK, module))
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * largest), plain, again)
    program = str(jax.make_jaxpr(jax.grad(partial(total, module)))(variables["params"]))
    assert "remat" in program or "checkpoint" in program


@cache
def keyframe_variables():
    return dict(Tiny(K).init(jax.random.key(1), jnp.zeros((1, 64, 64, 3))))


@cache  # each of these programs takes seconds to compile
def compiled_step(labels, distill, train_scale):
    """(step, optimizer) for one combination of options."""
    named = {"ce": dict(name="cross_entropy")}
    if distill:
        named["distill"] = dict(name="distillation", weight=100.0)
    terms = loss_terms({name: TermOptions(**term) for name, term in named.items()}, {"logits": 1.0})
    optimizer = make_optimizer("sgd", lambda step: 0.1, network_variables()["params"])
    step = make_snippet_step(
        VideoSegmenter(Tiny(K), NETWORK),
        terms,
        make_update(optimizer, lambda step: 0.1),
        lambda batch: (batch["frames"], {"labels": batch["labels"], "inside": batch["inside"]}),
        labels=labels,
        teacher=distill,
        train_scale=train_scale,
    )
    return jax.jit(step), optimizer


def trained(variables, batch, *, labels="truth", distill=False, mesh=None, train_scale=1.0):
    """One step of SGD: (metrics, parameters after it)."""
    step, optimizer = compiled_step(labels, distill, train_scale)
    state, keyframe = create_state(variables, optimizer, ema=False), keyframe_variables()
    if mesh:
        state, keyframe = jax.device_put((state, keyframe), parallel.replicated(mesh))
        batch = parallel.shard_batch(batch, mesh)
    state, metrics = step(state, batch, keyframe)
    return jax.device_get(metrics), jax.device_get(state.params)


def batch_of(b=8, t=3):
    labels = np.random.default_rng(3).integers(0, K, (b, 64, 64)).astype(np.int32)
    inside = np.ones((b, 64, 64), bool)
    inside[:, 60:] = False
    frames = drawn(b, t, 64, 64, 3)
    return dict(frames=frames, labels=labels, inside=inside, epoch=np.zeros(b, np.int32))


def test_one_device_is_eight_devices(variables):
    one = trained(variables, batch_of())
    eight = trained(variables, batch_of(), mesh=parallel.make_mesh({"data": 8}, jax.devices()[:8]))
    for name in one[0]:
        np.testing.assert_allclose(one[0][name], eight[0][name], rtol=2e-4, err_msg=name)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5), one[1], eight[1])


def test_the_loss_is_that_of_the_enlarged_logits_of_the_last_frame(variables):
    batch = batch_of()
    metrics, _ = trained(variables, batch)
    whole = VideoSegmenter(Tiny(K), NETWORK)
    of = partial(whole.apply, with_keyframe(variables, keyframe_variables()))
    start = of(batch["frames"][:, 0], method="start")
    small = resize(batch["frames"], (8, 8), align_corners=True)
    state, _ = by_hand(variables, start, small, 0)
    logits = np.asarray(resize(state, (64, 64), align_corners=True), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, batch["labels"][..., None], -1).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
    other, _ = trained(variables, batch, train_scale=0.5)
    assert abs(float(other["loss"]) - expected) > 1e-4  # the keyframe was labelled at half size


def test_a_teacher_labels_the_last_frame_and_is_compared_with(variables):
    batch = batch_of()
    blank = {**batch, "labels": np.full_like(batch["labels"], 255)}
    one, two = (trained(variables, x, labels="teacher", distill=True)[0] for x in (batch, blank))
    assert one["loss"] == two["loss"] and one["ce"] > 0 and one["distill"] > 0
    np.testing.assert_allclose(one["loss"], one["ce"] + 100 * one["distill"], rtol=1e-5)
    ids = np.argmax(Tiny(K).apply(keyframe_variables(), batch["frames"][:, -1]).logits, -1)
    truth = {**batch, "labels": np.where(batch["inside"], ids, 255).astype(np.int32)}
    np.testing.assert_allclose(trained(variables, truth)[0]["loss"], one["ce"], rtol=1e-5)


@pytest.mark.parametrize(
    "options, text",
    [(dict(labels="true"), "labels='true' must be truth or teacher"), (dict(gradient_steps=-1), "gradient_steps=-1")],
)
def test_impossible_options(options, text):
    with pytest.raises(UserError, match=text):
        make_snippet_step(VideoSegmenter(Tiny(K), NETWORK), (), None, None, **options)
