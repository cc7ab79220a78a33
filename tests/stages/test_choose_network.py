"""The stage that chooses a network: of stand-in reports, and a file that commands take in place of a run."""

import json

import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.stages import choose_network
from segjax.stages.dataset import read_dataset
from segjax.stages.stage import Context
from segjax.weights import runs

DATASET = read_dataset({"name": "camvid"}, "dataset")


def context(workdir):
    (workdir / "choose").mkdir(exist_ok=True)
    return Context("choose", workdir, workdir / "choose", 0, DATASET)


def report(workdir, fold, miou, checkpoint=None):
    folder = workdir / f"evaluate_fold{fold}"
    folder.mkdir()
    section = {"checkpoint": f"train_fold{fold}" if checkpoint is None else checkpoint}
    (workdir / f"train_fold{fold}").mkdir()
    scores = {"kind": "evaluate", "miou": miou, "iou": {"car": 1 - (miou or 0)}, "settings": {"stage": section}}
    (folder / "report.json").write_text(json.dumps(scores))


@pytest.fixture
def exported(monkeypatch):
    """Names of the networks of which weights are written."""
    found = []
    monkeypatch.setattr(choose_network, "export_weights", lambda network, file, write: found.append(network.name))
    return found


def choose(workdir, number="miou", stages=(0, 1, 2)):
    names = tuple(f"evaluate_fold{fold}" for fold in stages)
    options = choose_network.read(dict(kind="choose", stages=names, number=number), "choose")
    return choose_network.run(options, context(workdir))


def test_the_highest_number_is_chosen_and_of_equal_ones_the_first(tmp_path, exported):
    for fold, miou in enumerate((0.5, 0.7, 0.7)):
        report(tmp_path, fold, miou)
    found = choose(tmp_path)
    assert (found["chosen"], found["network"], found["miou"]) == ("evaluate_fold1", "train_fold1", 0.7)
    assert found["values"] == {"evaluate_fold0": 0.5, "evaluate_fold1": 0.7, "evaluate_fold2": 0.7}
    assert choose(tmp_path, "iou.car")["network"] == "train_fold0"
    assert exported == ["train_fold1", "train_fold0"]


@pytest.mark.parametrize(
    "miou, checkpoint, message", [(None, None, "miou = null"), (0.5, "", "no checkpoint, so nothing can be chosen")]
)
def test_what_has_no_score_or_no_network_is_refused(tmp_path, exported, miou, checkpoint, message):
    report(tmp_path, 0, miou, checkpoint)
    with pytest.raises(UserError, match=message):
        choose(tmp_path, stages=(0,))
    with pytest.raises(UserError, match="stage evaluate_fold1 has no report in"):
        choose(tmp_path, stages=(1,))
    assert not exported


@pytest.mark.parametrize("stages", [(), "evaluate", (1,)])
def test_stages_that_are_no_list_of_names(stages):
    with pytest.raises(UserError, match="choose.stages=.* must list stages that score a network"):
        choose_network.read(dict(kind="choose", stages=stages), "choose")
    with pytest.raises(UserError, match="choose.stages is missing"):
        choose_network.read(dict(kind="choose"), "choose")


def test_a_run_that_has_chosen_predicts_with_the_chosen_network(tmp_path, monkeypatch):
    """A checkpoint beside it, which is newer, is not taken."""
    from segjax import models

    spec = {"name": "fastscnn", "num_classes": 3, "options": {}}
    model = models.from_spec(spec)
    variables = jax.jit(lambda: model.init(jax.random.key(5), np.zeros((1, 32, 32, 3), np.float32), train=False))()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "load_for_inference", lambda path: (spec, variables, {"step": 8, "normalisation": "none"}))
        runs.export_weights("anything", tmp_path / "choose" / runs.CHOSEN)
        assert not runs.export_weights("anything", tmp_path / "other.safetensors", write=False).exists()
    (tmp_path / "train_fold9" / "checkpoints" / "3" / "state").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "choose"):
        found, loaded, info = runs.load_for_inference(path)
        assert found["name"] == "fastscnn" and info["step"] == 8 == runs.read_meta(path)["step"]
        for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(variables)):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="there is no checkpoint|no checkpoint in"):
        runs.load_for_inference(tmp_path / "train_fold9")
