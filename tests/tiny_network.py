"""A network with batch norms, dropout and an auxiliary head that compiles in a second, and its oracle in numpy."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from segjax import augment, models
from segjax.data import LabelMap, class_table
from segjax.models.heads import seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, relu
from segjax.training.checkpoints import Checkpoints
from segjax.training.state import create_state

MAP = LabelMap(class_table("cityscapes"))
STEP = 7
STREET = dict(height=32, width=48, train=3, validation=1, test=1, frames=6, labelled_every=1)


class Tiny(ImageNetwork):
    """Pixels and their mean, in two branches of norm, ReLU, 1x1 convolution; the head "aux" sees every 8th pixel."""

    loss_weights = {"logits": 1.0}

    @nn.compact
    def __call__(self, images, train=False):
        conv, norm = conv_and_norm(self, train)
        x = conv(6, 1, name="first")(images)
        x = relu(norm(name="norm1")(x))
        x = Dropout(0.5, train=train, name="drop")(x)
        x = conv(5, 1, name="second")(x)
        mean = norm(name="norm_mean")(x.mean((1, 2), keepdims=True))
        x = relu(norm(name="norm2")(x) + mean)
        heads = {"logits": conv(self.num_classes, 1, use_bias=True, name="head")(x)}
        aux = conv(self.num_classes, 1, use_bias=True, name="aux_head")(x[:, ::8, ::8])
        return seg_output(heads, {}, images.shape[1:3], align_corners=False, aux={"aux8": aux})


def oracle(variables, images, batches, eps=1e-5):
    """Population statistics of `Tiny`, in float64.

    images: uint8 (n, h, w, 3). batches: (images of a batch, which of them count).
    """
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    mean, std = (np.array(x, np.float64) for x in augment.normalisation("imagenet"))
    seen = {"norm1": [], "norm2": [], "norm_mean": []}

    def norm(name, x, counts):
        seen[name].append(x[counts].reshape(-1, x.shape[-1]))
        axes = (0, 1, 2)
        y = (x - x.mean(axes)) / np.sqrt(x.var(axes) + eps)
        return y * params[name]["scale"] + params[name]["bias"]

    for chosen, counts in batches:
        x = (images[chosen] / 255.0 - mean) / std
        x = np.maximum(norm("norm1", x @ params["first"]["kernel"][0, 0], counts), 0)
        x = x @ params["second"]["kernel"][0, 0]
        norm("norm_mean", x.mean((1, 2), keepdims=True), counts)
        norm("norm2", x, counts)
    found = {name: np.concatenate(parts) for name, parts in seen.items()}
    return {name: {"mean": x.mean(0), "var": x.var(0)} for name, x in found.items()}


def variables(seed=0):
    module = Tiny(MAP.num_classes)
    drawn = module.init(jax.random.key(seed), jnp.zeros((1, 64, 64, 3)))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(1, 0.3, x.shape), jnp.float32) * (x + 0.1), dict(drawn))


def save(folder: Path, *, averaged=None, options=None) -> None:
    """Writes the checkpoint of a training of `Tiny`; averaged: other variables, as its moving average."""
    state = create_state(variables(), optax.sgd(0.1), ema=averaged is not None)
    state = state.replace(step=jnp.asarray(STEP, jnp.int32), **({"ema": averaged} if averaged else {}))
    spec = {"name": "tiny", "num_classes": MAP.num_classes, "options": {"remat": True, **(options or {})}}
    meta = {"model": spec, "normalisation": "imagenet", "label_map": MAP.to_dict(), "history": [{"step": 1}]}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state, step=STEP, meta=meta)


def register(monkeypatch=None) -> None:
    """Makes "tiny" the name of a network."""
    if monkeypatch is None:
        models.MODELS["tiny"] = Tiny
    else:
        monkeypatch.setitem(models.MODELS, "tiny", Tiny)
