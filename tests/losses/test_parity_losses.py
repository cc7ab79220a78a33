"""Values and gradients of the published losses: all stored cases, and a few numbers of them that always run."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.losses import (
    Grid,
    count_classes,
    cross_entropy,
    distillation,
    ohem_cross_entropy,
    relaxed_cross_entropy,
    soft_targets,
)
from segjax.ops import resize

FIXTURE = Path(__file__).parents[1] / "fixtures" / "parity_losses.npz"
KINDS = {"relaxed": 13, "image_weighted_ce": 3, "hrnet_ohem": 3, "hrnet_ce": 3, "prob_ohem": 4}


def last(x):
    return np.moveaxis(x, 1, -1)


def published(case, data):
    """(function of a dict of logits, those logits (b, h, w, k) by name) that gives the published scalar."""
    labels, kind = data["labels"], case["kind"]
    logits = {name: last(data[name]) for name in ("aux", "logits") if name in data}
    weights = data.get("class_weights")

    def relaxed(x):
        options = {"strict_classes": tuple(case["strict"] or ()), "off_epoch": None if case["phase"] == 1 else -1}
        options |= {"ignore_label": case["ignore"], "upper_bound": case["upper_bound"], "mode": "reference"}
        return relaxed_cross_entropy(x["logits"], labels, **options).mean()

    def image_weighted(x):
        options = {"class_weights": weights, "ignore_label": case["ignore"], "weight_mode": "image_mean"}
        return cross_entropy(x["logits"], labels, **options).value

    def hrnet(x):
        w = weights if case["class_weights"] else None
        aux, main = (resize(x[name], labels.shape[1:], align_corners=True) for name in ("aux", "logits"))
        if kind == "hrnet_ce":
            main, aux = (cross_entropy(y, labels, class_weights=w).mean() for y in (main, aux))
        else:
            options = {"threshold": case["thres"], "min_kept": case["min_kept"], "inclusive": False}
            main = ohem_cross_entropy(main, labels, class_weights=w, weight_mode="pixel_mean", **options).mean()
            # the published auxiliary term is the mean over all pixels, ignored ones too
            aux = cross_entropy(aux, labels, class_weights=w, weight_mode="pixel_mean").value / labels.size
        return case["balance"][0] * aux + case["balance"][1] * main

    def prob_ohem(x):
        options = {"threshold": case["thresh"], "min_kept": case["min_kept"]}
        w = weights if case["use_weight"] else None
        return ohem_cross_entropy(x["logits"], labels, class_weights=w, **options).mean()

    functions = {"relaxed": relaxed, "image_weighted_ce": image_weighted, "prob_ohem": prob_ohem}
    return functions.get(kind, hrnet), logits


def check(case, data, stride=1):
    function, logits = published(case, data)
    value, gradient = jax.jit(jax.value_and_grad(function))(logits)
    np.testing.assert_allclose(value, case["loss"], rtol=1e-5, err_msg=case["file"])
    for name, got in gradient.items():
        wanted = last(data["grad" if "aux" not in logits else f"grad_{name}"])
        got = np.asarray(got)[:, ::stride, ::stride]
        assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max(), (case["file"], name)


@pytest.mark.parametrize("kind", KINDS)
def test_all_published_cases(parity, kind):
    folder = parity / "losses"
    cases = [case for case in json.loads((folder / "spec.json").read_text())["cases"] if case["kind"] == kind]
    assert len(cases) == KINDS[kind]
    for case in cases:
        check(case, dict(np.load(folder / case["file"])))


def stored(name):
    """A case of the fixture, whose gradients are thinned out by 4; cases share their inputs."""
    file = np.load(FIXTURE)
    case = json.loads(str(file[f"{name}/case"]))
    keys = [key for key in file.files if key.startswith((f"{name}/", f"{case['inputs']}/l"))]
    return case, {key.split("/")[1]: file[key] for key in keys}


@pytest.mark.parametrize(
    "name", ["relaxed_3", "relaxed_4", "relaxed_11", "relaxed_12", "imgwt_13", "hrnet_ohem_1", "prob_ohem_2"]
)
def test_stored_cases(name):
    check(*stored(name), stride=4)


@pytest.mark.parametrize("name", ["imgwt_5", "imgwt_10"])
def test_histogram_weights_are_the_published_ones(parity, name):
    data = np.load(parity / "losses" / f"{name}.npz")
    total = cross_entropy(last(data["logits"]), data["labels"], upper_bound=1.0, weight_mode="image_mean")
    np.testing.assert_allclose(total.value, data["loss"], rtol=1e-5)


def test_weighted_cross_entropy_and_distillation_are_those_of_gsvnet(parity):
    """10 times the class-weighted cross entropy, and 100 times the divergence from the teacher (released code)."""
    data = np.load(parity / "losses" / "gsv_criterion_0.npz")
    labels, teacher = data["labels"], last(data["teacher"])

    def loss(logits):
        entropy = cross_entropy(logits, labels, ignore_label=250, class_weights=data["class_weights"]).mean()
        return 10 * entropy + 100 * distillation(logits, labels, teacher, ignore_label=250).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(last(data["logits"]))
    np.testing.assert_allclose(value, data["loss"], rtol=1e-5)
    wanted = last(data["grad"])
    assert np.abs(gradient - wanted).max() <= 1e-5 * np.abs(wanted).max()


def check_pyramid(data):
    h, w = data["labels"].shape[1:]
    grids = [Grid(h // scale, w // scale, 19, scale) for scale in (16, 8, 4)]
    together = count_classes(data["labels"], grids, ignore_label=19)
    for i, grid in enumerate(grids):
        targets, valid = soft_targets(data["labels"], 19, grid[:2], ignore_label=19)
        own = count_classes(data["labels"], [grid], ignore_label=19)
        np.testing.assert_array_equal(together[grid], own[grid])
        wanted = data[f"valid{i}"]
        np.testing.assert_array_equal(np.ravel(valid), wanted)
        np.testing.assert_allclose(targets.reshape(-1, 19)[wanted], data[f"target{i}"][wanted], atol=1e-6)


def test_pyramid_of_soft_targets(parity):
    check_pyramid(np.load(parity / "losses" / "ldn_pyramid_0.npz"))


def test_stored_pyramid_of_soft_targets():
    check_pyramid(stored("ldn_pyramid_0")[1])
