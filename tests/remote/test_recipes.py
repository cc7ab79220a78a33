"""Recipes, checkpoints and commands whose folders are in a bucket."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import cli
from segjax.errors import UserError
from segjax.inference.network import find_run
from segjax.remote import Store, cache_root, current, fetch, lease, working_copy
from segjax.remote.manifest import read_files
from segjax.stages import recipe, run_recipe
from segjax.stages.stage import no_check
from segjax.weights.runs import export_weights, load_for_inference, read_meta
from tests import tiny_network


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "SETTLE", 0.0)


def config(split="test"):
    evaluate = dict(kind="evaluate", checkpoint="train", split=split)
    train = dict(kind="train", init=dict(checkpoint=""))
    return ConfigDict(
        dict(seed=0, stages=("train", "evaluate"), dataset=dict(name="camvid"), train=train, evaluate=evaluate)
    )


def test_a_run_goes_on_on_another_host(place, monkeypatch, tmp_path, caplog):
    ran = []

    def run(options, context):
        assert current().folder in context.folder.parents
        (context.folder / "picture.png").write_bytes(b"1")
        ran.append(context.name)
        if options.get("split") == "broken":
            raise UserError(f"{context.folder / 'picture.png'} is wrong.")
        return {"miou": 0.5}

    for kind in ("train", "evaluate"):
        stage = dataclasses.replace(
            recipe.STAGES[kind], read=lambda settings, where: settings, run=run, inputs=lambda *_: {}, check=no_check
        )
        monkeypatch.setitem(recipe.STAGES, kind, stage)
    with pytest.raises(UserError, match=f"^{place}/evaluate/picture.png is wrong.$"):
        run_recipe(config("broken"), workdir=str(place))
    assert ran == ["train", "evaluate"]
    monkeypatch.setenv("SEGJAX_CACHE_DIR", str(tmp_path / "another host"))
    reports = run_recipe(config(), workdir=str(place))
    assert ran == ["train", "evaluate", "evaluate"] and set(reports) == {"train", "evaluate"}
    assert run_recipe(config(), workdir=str(place)) == reports and len(ran) == 3
    with pytest.raises(UserError, match=f"{place}/train was finished with other settings .*or delete {place}/train"):
        run_recipe(ConfigDict({**config().to_dict(), "seed": 1}), workdir=str(place))
    for name in (name for name in Store(place).names() if name.startswith("train/")):
        Store(place).delete(name)  # as the error says
    run_recipe(config(), workdir=str(place))
    assert ran[3:] == ["train"] or ran[3:] == ["train", "evaluate"]


@pytest.fixture
def run(place, monkeypatch):
    """Address of a run with a checkpoint of the network "tiny"."""
    tiny_network.register(monkeypatch)
    with working_copy(place) as copy:
        tiny_network.save(copy.folder / "train" / "checkpoints")
        (copy.folder / "train" / "events").mkdir()
        (copy.folder / "train" / "events" / "x").write_text("x")
    return place


def test_checkpoints_are_read_from_a_bucket(run, tmp_path):
    wanted = tiny_network.variables()
    for address in (run, run / "train", run / "train/checkpoints", run / f"train/checkpoints/{tiny_network.STEP}"):
        spec, variables, info = load_for_inference(str(address))
        assert spec["name"] == "tiny" and info["step"] == tiny_network.STEP
        assert jax.tree.all(jax.tree.map(np.array_equal, variables, wanted))
    assert read_meta(str(run))["normalisation"] == "imagenet"
    assert find_run(str(run), tmp_path).is_dir()
    assert not list(cache_root().glob("read/**/events"))  # what no reader needs is not fetched
    export_weights(str(run), tmp_path / "a.safetensors")
    Store(run.parents[0]).write("a.safetensors", (tmp_path / "a.safetensors").read_bytes())
    found = load_for_inference(f"{run.parents[0]}/a.safetensors")
    assert jax.tree.all(jax.tree.map(np.array_equal, found[1], wanted))


def test_a_checkpoint_that_came_in_part_is_none(run, tmp_path):
    files = read_files(Store(run))
    largest = max(files, key=lambda name: files[name].size)
    Store(run).write(largest, Store(run).read(largest)[:-1])
    with pytest.raises(UserError, match="no checkpoint"):
        load_for_inference(str(run))


def test_nothing_to_read(run):
    for address in (run / "trian", run.parents[0] / "no-such-run", run / "a.safetensors"):
        with pytest.raises(UserError, match=f"--checkpoint={address} (names nothing that segjax|does not exist)"):
            fetch(address, "--checkpoint")


def test_commands(run, tmp_path, capfd):
    assert cli.main(["export-weights", f"--checkpoint={run}", f"--output={tmp_path / 'a.safetensors'}"]) == 0
    assert (tmp_path / "a.safetensors").is_file()
    assert cli.main(["predict", f"--checkpoint={run}-typo", "--input=docs/street.png", f"--output={tmp_path}/o"]) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith(f"segjax: error: --checkpoint={run}-typo names nothing that segjax has written")
