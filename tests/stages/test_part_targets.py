"""Parts of a training in the stage "train": what a recipe says of them, and the step that follows from it."""

import copy
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import losses, parallel
from segjax.data import LabelMap, train_batches
from segjax.data.joined import Joined
from segjax.data.plans import Extra, parts_of
from segjax.errors import UserError
from segjax.stages import train, train_step
from segjax.stages.part_targets import online_thresholds, part_names
from segjax.training.optimizer import make_optimizer
from segjax.training.state import create_state
from segjax.training.update import make_update
from tests.data.fake_source import FakeSource, SoftSource
from tests.training.fake_network import CLASSES, SmallNetwork, rate

SETTINGS = dict(
    kind="train", total_epochs=1, batch_size=8, crop=dict(size=(16, 24), scale_range=(1.0, 1.5)),
    augment=dict(flip=True, color_jitter=dict(brightness=0.4)), mesh=dict(data=1), loader=dict(num_threads=0),
    model=dict(name="fastscnn"), optimizer=dict(name="sgd", lr=0.1),
    loss=dict(
        main=dict(name="cross_entropy", on="logits", parts=["real", "own"]),
        soft=dict(name="top_k_cross_entropy", on="logits", parts=("soft",)),
        smooth=dict(name="model_regulariser", on="logits", parts="own", weight=0.1),
    ),
    extra=dict(
        soft=dict(stage="x", mode="jp", steps=(1,), in_epoch=True),
        own=dict(split="pool", labels="online", threshold={"c": 0.4}, in_epoch=True),
    ),
)  # fmt: skip


class Named:
    """With a label map."""

    @property
    def label_map(self):
        return LabelMap.identity(self.class_names, self.palette)


class Real(Named, FakeSource):
    pass


class Soft(Named, SoftSource):
    pass


class Bare(Real):
    """Without labels."""

    def __getitem__(self, index):
        record = super().__getitem__(index)
        record.label = None
        return record


def settings(**changes):
    """The settings with `section_key` replaced or added."""
    found = copy.deepcopy(SETTINGS)
    for name, value in changes.items():
        section, _, key = name.partition("_")
        found[section] = {**found[section], key: value}
    return found


def open_training(monkeypatch, options, sources):
    """As the stage opens it, with these sources in place of datasets."""
    real, extras = sources["real"], []

    def open_extras(*_):
        for one in options.extra:
            first = extras[-1].first + len(extras[-1].source) if extras else len(real)
            extras.append(Extra(one.name, sources[one.name], first, one.in_epoch, ()))
        return Joined([real, *(extra.source for extra in extras)]), extras

    monkeypatch.setattr(train, "open_extras", open_extras)
    context = SimpleNamespace(
        dataset=SimpleNamespace(open=lambda split: real), name="train", seed=0, workdir=Path("nowhere")
    )
    return train.open_training(options, context, parallel.make_mesh({"data": 1}, jax.devices()[:1]))


SOURCES = dict(real=Real(2, num_classes=CLASSES), soft=Soft(3, num_classes=CLASSES), own=Bare(3, num_classes=CLASSES))


class Network(SmallNetwork):
    loss_weights = {"logits": 1.0}


def test_a_step_with_hard_soft_and_online_labels(monkeypatch):
    options = train.read(settings(), "train")
    real, samples, extras, plan = open_training(monkeypatch, options, SOURCES)
    (_, batch), *_ = train_batches(samples, plan.epochs, plan.timeline, options.reading)
    model, mesh = Network(), parallel.make_mesh({"data": 1}, jax.devices()[:1])
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16, 24, 3)))
    variables["params"]["classifier"]["kernel"] *= 3000.0  # so that pixels of one image differ in class and probability
    optimizer = make_optimizer("sgd", rate, params=variables["params"])
    online = online_thresholds(options.extra, real.class_names)
    parts, bucket = parts_of(real, extras), plan.timeline.at(0).bucket
    step = train_step.make_step(options, model, make_update(optimizer, rate), mesh, 0, parts, online, bucket)
    _, metrics = jax.jit(step)(create_state(variables, optimizer, ema=False), batch, {})

    augmentation = train_step.make_augmentation(options, crop=(16, 24), seed=0, plain=True)
    images, targets = jax.device_get(jax.jit(augmentation)(batch))
    logits = jax.jit(lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])[0].logits)(images)
    shares = np.asarray(jax.jit(lambda x: jax.nn.softmax(model.apply(variables, x).logits))(targets["plain"]))
    best, part = shares.argmax(-1), np.searchsorted([2, 5], batch["record"], side="right")
    sure = targets["inside"] & ((shares.max(-1) >= 0.4) | (best != 2))
    assert 0 < sure[part == 2].mean() < 1
    labels = np.where((part == 2)[:, None, None], np.where(sure, best, 255), targets["labels"])
    of = {name: part == number for number, name in enumerate(("real", "soft", "own"))}
    hard = of["real"] | of["own"]
    soft = [targets[name][of["soft"]] for name in ("soft_ids", "soft_shares")]
    assert (soft[0][..., 1] < CLASSES).any() and (soft[1][..., 1] > 0).any()
    wanted = {
        "main": losses.cross_entropy(logits[hard], labels[hard]).mean(),
        "soft": losses.top_k_cross_entropy(logits[of["soft"]], labels[of["soft"]], *soft).mean(),
        "smooth": losses.model_regulariser(logits[of["own"]], labels[of["own"]]).mean(),
        "loss/real": losses.cross_entropy(logits[of["real"]], labels[of["real"]]).mean(),
    }
    wanted["loss/soft"] = wanted["soft"]
    wanted["loss/own"] = losses.cross_entropy(logits[of["own"]], labels[of["own"]]).mean() + 0.1 * wanted["smooth"]
    wanted["loss"] = wanted["main"] + wanted["soft"] + 0.1 * wanted["smooth"]
    assert {name: float(metrics[name]) for name in wanted} == pytest.approx(
        {name: float(value) for name, value in wanted.items()}, rel=1e-5
    )


def test_parts_that_a_recipe_names():
    terms = train.read(settings(), "train").loss
    assert {name: term.parts for name, term in terms.items()} == {
        "main": ("real", "own"), "soft": ("soft",), "smooth": ("own",)
    }  # fmt: skip
    wrong = settings(loss_main=dict(name="cross_entropy", parts=("real", "sofd")))
    with pytest.raises(UserError, match="train.loss.main.parts='sofd' is not known. Did you mean 'soft'"):
        train.read(wrong, "train")
    with pytest.raises(UserError, match="train.extra.real: 'real' is the name of the real images"):
        train.read(settings(extra_real=dict(split="pool")), "train")
    assert part_names(train.read(settings(), "train").extra) == ("real", "soft", "own")


def test_a_soft_loss_needs_soft_labels(monkeypatch):
    options = train.read(settings(), "train")
    with pytest.raises(UserError, match="train.loss.soft.name='top_k_cross_entropy' .* set labels='soft'"):
        open_training(monkeypatch, options, {**SOURCES, "soft": SOURCES["real"]})


def test_an_unlabelled_part_must_be_labelled_online(monkeypatch):
    changed = settings(extra_own=dict(split="pool", in_epoch=True))
    options = train.read(changed, "train")
    _, samples, _, plan = open_training(monkeypatch, options, SOURCES)
    with pytest.raises(UserError, match="has no label to train on"):
        list(train_batches(samples, plan.epochs, plan.timeline, options.reading))


def test_thresholds_by_class():
    extra = train.read(settings(), "train").extra
    found = online_thresholds(extra, ("a", "b", "c"))
    assert {number: row.tolist() for number, row in found.items()} == {2: pytest.approx([0, 0, 0.4])}
    with pytest.raises(UserError, match="train.extra.own.threshold names 'c', which is no class"):
        online_thresholds(extra, ("road", "car"))
