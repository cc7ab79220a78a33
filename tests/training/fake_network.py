"""What the step tests train: a small network with every kind of layer, on small streets that are not augmented."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment, losses, models, ops
from segjax.models.layers import BatchNorm, Conv, relu
from segjax.training.optimizer import make_optimizer
from segjax.training.state import create_state
from segjax.training.step import make_train_step
from segjax.training.terms import LossTerm
from segjax.training.update import make_update
from segjax.typing import SegOutput

CLASSES, HEIGHT, WIDTH, BATCH = 5, 64, 96, 8


class SmallNetwork(nn.Module):
    """Strided, depthwise, pointwise and dilated convolutions, batch norm, pooling, resizing, an auxiliary head."""

    @nn.compact
    def __call__(self, images, train=False):
        norm = functools.partial(BatchNorm, train=train)
        x = relu(norm(name="bn0")(Conv(8, 3, 2, name="conv0")(images)))
        x = relu(norm(name="bn1")(Conv(8, 3, 2, groups=8, name="depthwise")(x)))
        x = relu(norm(name="bn2")(Conv(16, 1, name="pointwise")(x)))
        y = relu(norm(name="bn3")(Conv(16, 3, dilation=2, name="dilated")(x)))
        pool = Conv(16, 1, name="pool")(ops.adaptive_avg_pool(y, (2, 2)))
        y = y + ops.resize(pool, y.shape[1:3], align_corners=True)
        logits = ops.resize(Conv(CLASSES, 1, use_bias=True, name="classifier")(y), images.shape[1:3])
        return SegOutput(logits, {"aux": Conv(CLASSES, 1, use_bias=True, name="auxiliary")(x)})


def network(name: str) -> nn.Module:
    return SmallNetwork() if name == "small" else models.create(name, CLASSES, aux=True, dropout=0.0)


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, (BATCH, HEIGHT // 8, WIDTH // 8)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    label[:, :5] = 255
    label[3] = 255  # a row that counts for nothing: means of means would be wrong
    image = (label[..., None] * 40 + rng.integers(0, 60, (BATCH, HEIGHT, WIDTH, 3))).astype(np.uint8)
    whole = np.tile(np.float32([0, 0, HEIGHT, WIDTH]), (BATCH, 1))
    numbers = {name: np.arange(BATCH, dtype=np.int32) for name in ("index", "record")}
    return {
        "image": image,
        "label": label,
        "extent": whole,
        "box": whole,
        "epoch": np.zeros(BATCH, np.int32),
        **numbers,
    }


def terms(name: str = "cross_entropy") -> tuple[LossTerm, ...]:
    def term(logits, targets, *, epoch):
        return losses.LOSSES[name](logits, targets["labels"])

    return (LossTerm("main", term), LossTerm("aux", term, weight=0.4, on="aux"))


@functools.cache
def first_variables(name: str):
    """Of a network, drawn once for all tests."""
    init = jax.jit(functools.partial(network(name).init, train=False))
    return jax.device_get(init(jax.random.key(0), jnp.zeros((1, HEIGHT, WIDTH, 3))))


def setup(*, name="small", loss="cross_entropy", ema_decay=0.0, constrain=lambda x: x):
    """(step, state) of plain SGD at rate 1 without momentum, so that the parameters tell the gradient."""
    model, variables = network(name), jax.tree.map(jnp.asarray, first_variables(name))
    optimizer = make_optimizer("sgd", rate, params=variables["params"], momentum=0.0)
    state = create_state(variables, optimizer, ema=ema_decay > 0)
    update = make_update(optimizer, rate, ema_decay=ema_decay)
    step = make_train_step(model.apply, terms(loss), update, whole_images(), seed=0, constrain=constrain)
    return step, state


def any_step(apply, terms, params, prepare, *, accumulate_steps=1):
    """(step, state) of any `apply` without statistics, trained as in `setup`."""
    optimizer = make_optimizer("sgd", rate, params=params, momentum=0.0)
    state = create_state({"params": params, "batch_stats": {}}, optimizer, ema=False)
    update = make_update(optimizer, rate)
    return make_train_step(apply, terms, update, prepare, seed=0, accumulate_steps=accumulate_steps), state


def linear_step(apply, terms, params, *, accumulate_steps):
    """The state and metrics after one step of any `apply`."""
    step, state = any_step(apply, terms, params, plain_images, accumulate_steps=accumulate_steps)
    return jax.jit(step)(state, {name: jnp.asarray(x) for name, x in batch().items()}, {})


def rate(step):
    return jnp.float32(1.0)


def plain_images(batch, frozen):
    """As `whole_images`, without a program of augmentation that would have to be compiled."""
    mean, std = augment.normalisation("imagenet")
    return augment.normalise(batch["image"], mean=mean, std=std), {"labels": batch["label"].astype(jnp.int32)}


def whole_images():
    mean, std = augment.normalisation("imagenet")

    def prepare(batch, frozen):
        return augment.augment_batch(batch, seed=0, crop=(HEIGHT, WIDTH), flip=False, mean=mean, std=std)

    return prepare
