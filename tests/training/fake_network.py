"""What the step tests train: FastSCNN on small random streets, augmented by nothing, so that every number is comparable."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment, losses, models
from segjax.training.optimizer import make_optimizer
from segjax.training.state import create_state
from segjax.training.step import LossTerm, make_train_step

CLASSES, HEIGHT, WIDTH, BATCH = 5, 64, 96, 8


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
    def term(logits, labels, *, epoch):
        return losses.LOSSES[name](logits, labels)

    return (LossTerm("main", term), LossTerm("aux", term, weight=0.4, on="aux"))


def setup(
    *, loss="cross_entropy", accumulate_steps=1, ema_decay=0.0, constrain=lambda x: x, network="fastscnn", **options
):
    """(step, state): one optimizer step of plain SGD with rate 1, so that parameters tell the gradient."""
    model = models.create(network, CLASSES, **options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, HEIGHT, WIDTH, 3)), train=False)
    schedule = lambda step: jnp.float32(0.01)  # noqa: E731
    optimizer = make_optimizer("sgd", schedule, params=variables["params"], momentum=0.0)
    state = create_state(variables, optimizer, ema=ema_decay > 0)
    mean, std = augment.normalisation("imagenet")
    step = make_train_step(
        model.apply,
        terms(loss),
        optimizer,
        schedule,
        functools.partial(augment.augment_batch, seed=0, crop=(HEIGHT, WIDTH), flip=False, mean=mean, std=std),
        seed=0,
        accumulate_steps=accumulate_steps,
        ema_decay=ema_decay,
        constrain=constrain,
    )
    return step, state
