"""The program of every network, loss and kind of step lowers for TPU and CUDA, on a machine that has neither.

Deeper trunks of the same networks are lowered by `-m slow` tests. The lowered text shows: no call back to the host,
convolutions in bfloat16, and a state whose memory the new one takes over. Slow tests of stages/test_rehearsal.py
compile programs for TPUs.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import losses, models
from segjax.costs import programs
from segjax.models.video_segmenter import VideoSegmenter
from segjax.ops import for_platform
from segjax.training.optimizer import make_optimizer
from segjax.training.snippet_step import make_snippet_step
from segjax.training.state import create_state
from segjax.training.step import make_train_step
from segjax.training.terms import TermOptions, loss_terms
from segjax.training.update import make_update
from segjax.training.video_step import RELEASED, make_video_step
from tests.networks import LIGHTEST, every
from tests.tiny_network import Tiny

K = 5
OPTIMIZERS = ("adam", "amsgrad", "adamw")
CONVOLUTIONS = (
    "fastscnn",
    "deeplabv3plus_rnx50",
)  # with all kinds: only these differ between GPU and TPU, see ops/conv.py
# besides the labels, what a loss needs
TARGETS = {
    "distillation": {"teacher": ((2, 32, 48, K), jnp.float32)},
    "top_k_cross_entropy": {"soft_ids": ((2, 32, 48, 2), jnp.uint8), "soft_shares": ((2, 32, 48, 2), jnp.uint8)},
}


def lowered(function, platform, *arguments, donate=(), to=()):
    """The program traced for a platform, as text; to: several platforms that it lowers to, by default that one."""
    program = jax.jit(for_platform(function, platform), donate_argnums=donate)
    return program.trace(*arguments).lower(lowering_platforms=to or (platform,)).as_text()


def check_step(text, state, convolutions="bf16"):
    """A training step, whose first argument is the state."""
    check_inference(text, convolutions)
    assert text.count("tf.aliasing_output") >= len(jax.tree.leaves(state))


def check_inference(text, convolutions="bf16"):
    assert "callback" not in text
    types = set(re.findall(r"stablehlo\.convolution.*-> tensor<(?:\d+x)*(\w+)>", text))
    assert types == {convolutions}


@every(LIGHTEST)
def test_a_training_step(name):
    """As it is traced for TPU; each of its operations exists on CUDA too."""
    program = training(name)
    text = lowered(program.function, "tpu", *program.arguments, donate=0, to=("tpu", "cuda"))
    check_step(text, program.arguments[0])


@every(CONVOLUTIONS)
def test_a_training_step_as_traced_for_cuda(name):
    program = training(name)
    check_step(lowered(program.function, "cuda", *program.arguments, donate=0), program.arguments[0])


def training(name):
    return programs.training_step(workload(name))


def workload(name):
    return programs.Workload(name=name, size=(64, 128), batch=2, options=dict(dtype="bfloat16"))


@every(LIGHTEST)
def test_inference(name):
    program = programs.inference(workload(name))
    check_inference(lowered(program.function, "tpu", *program.arguments, to=("tpu", "cuda")))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_every_loss(loss, platform):
    step, state = image_step(loss, "sgd")
    check_step(lowered(step, platform, state, batch(loss), {}, donate=0), state, "f32")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer):
    step, state = image_step("cross_entropy", optimizer)
    check_step(lowered(step, "tpu", state, batch("cross_entropy"), {}, donate=0), state, "f32")


def image_step(loss, optimizer):
    """(step, shapes of its state) of the tiny network."""
    network = Tiny(K)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 48, 3)))
    build = make_optimizer(optimizer, lambda step: 0.1, variables["params"])
    step = make_train_step(
        network.apply,
        loss_terms({"loss": TermOptions(name=loss, on="logits")}, network.loss_weights),
        make_update(build, lambda step: 0.1),
        lambda batch, frozen: (batch["image"], {key: value for key, value in batch.items() if key != "image"}),
        seed=0,
    )
    return step, jax.eval_shape(partial(create_state, optimizer=build, ema=False), variables)


def batch(loss):
    shape = jax.ShapeDtypeStruct
    found = {"image": shape((2, 32, 48, 3), jnp.float32), "labels": shape((2, 32, 48), jnp.int32)}
    found |= {"epoch": shape((2,), jnp.int32), "inside": shape((2, 32, 48), bool)}
    return found | {name: shape(*of) for name, of in TARGETS.get(loss, {}).items()}


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_of_a_video_network(platform):
    network = models.create_video("sdcnet2d_recon", width=0.25)
    arguments = models.FAMILIES["video"].inputs(network)
    variables = jax.eval_shape(network.init, jax.random.key(0), *arguments)
    optimizer = make_optimizer("adam", lambda step: 0.1, variables["params"])
    state = jax.eval_shape(partial(create_state, optimizer=optimizer, ema=False), variables)
    shape, size = jax.ShapeDtypeStruct, (64, 64)
    read = {"images": shape((2, 3, *size, 3), np.uint8), "weight": shape((2,), jnp.float32)}
    read["flows"] = shape((2, network.frames - 1, *size, 2), jnp.float32)
    step = make_video_step(
        network.apply, make_update(optimizer, lambda step: 0.1), frames=network.frames, weights=RELEASED
    )
    check_step(lowered(step, platform, state, read, {}, donate=0), state, "f32")


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_of_a_propagation_network(platform):
    network, keyframe = models.create_propagation("gsvnet", K), Tiny(K)
    arguments = models.FAMILIES["propagation"].inputs(network)
    variables = jax.eval_shape(network.init, jax.random.key(0), *arguments)
    frozen = jax.eval_shape(keyframe.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    optimizer = make_optimizer("sgd", lambda step: 0.1, variables["params"])
    state = jax.eval_shape(partial(create_state, optimizer=optimizer, ema=False), variables)
    shape, size = jax.ShapeDtypeStruct, (64, 64)
    read = {"frames": shape((2, 4, *size, 3), jnp.float32), "labels": shape((2, *size), jnp.int32)}
    read |= {"inside": shape((2, *size), bool), "epoch": shape((2,), jnp.int32)}
    step = make_snippet_step(
        VideoSegmenter(keyframe, network),
        loss_terms({"loss": TermOptions(name="cross_entropy")}, {"logits": 1.0}),
        make_update(optimizer, lambda step: 0.1),
        lambda batch: (batch["frames"], {"labels": batch["labels"], "inside": batch["inside"]}),
    )
    check_step(lowered(step, platform, state, read, frozen, donate=0), state, "f32")
