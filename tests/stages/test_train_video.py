"""The stage "train_video" on the synthetic street: what it writes, resuming, fine-tuning, and what it refuses."""

import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax.data.image_files import encode_png, read_image
from segjax.data.sources import Record
from segjax.errors import UserError
from segjax.inference.network import open_network
from segjax.propagation.motion import open_flow, open_video_network
from segjax.stages import run_recipe
from segjax.stages.dataset import read_dataset
from segjax.stages.stage import Context
from segjax.stages.training_options import find_init
from segjax.stages.video_data import flow_statistics, read_flow
from segjax.training.start import Init
from segjax.weights.runs import load_for_inference

STREET = dict(height=64, width=128, train=2, validation=1, test=1, frames=6)


def recipe(street_dir, **changes):
    dataset = dict(
        name="synthetic_street", options=STREET, train="train", validation="validation", data_dir=str(street_dir)
    )
    stage = dict(
        kind="train_video",
        batch_size=2,
        crop=dict(size=(32, 48)),
        flow=dict(name="dis", options=dict(preset="fast"), measure=2, cache_bytes=2**24),
        model=dict(name="sdcnet2d_recon", options=dict(width=0.1, levels=3)),
        optimizer=dict(name="adam", lr=1e-3),
        mesh=dict(data=1),
        loader=dict(num_threads=2),
        total_steps=4,
        checkpoint_steps=2,
        eval_steps=2,
        eval_limit=2,
        log_steps=1,
        sheet_rows=2,
    )
    stage.update(changes)
    return ConfigDict(dict(seed=0, stages=("train_video",), dataset=dataset, train_video=stage))


def run(config, workdir):
    return run_recipe(config, workdir=workdir)["train_video"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, street_dir):
    workdir = tmp_path_factory.mktemp("video")
    return workdir, run(recipe(street_dir), workdir)


def test_report_log_sheet_and_checkpoint(finished):
    workdir, report = finished
    scores = report["validation"]
    assert scores["frames"] == 2 and all(np.isfinite(v) for v in scores.values())
    assert set(scores) == {"psnr", "psnr_copy", "psnr_flow", "ssim", "ssim_copy", "ssim_flow", "frames"}
    assert scores["psnr_flow"] > scores["psnr_copy"] + 3 and abs(scores["psnr"] - scores["psnr_flow"]) < 3
    assert [entry["step"] for entry in report["history"]] == [2, 4]
    assert report["triplets"] == 8 and report["frames_without_neighbours"]["count"] == 4
    lines = [json.loads(line) for line in (workdir / "train_video" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 4 and all({"color", "gradient", "smooth", "used"} <= set(line) for line in steps)
    assert read_image(workdir / "train_video" / "sheet.png").shape[1] > 1200
    spec, _, info = load_for_inference(workdir)
    assert spec["options"]["flow_mean"] == info["flow"]["mean"] and len(spec["options"]["flow_std"]) == 2
    assert info["flow"]["name"] == "dis" and info["flow"]["options"] == {"preset": "fast"}


def test_a_run_in_two_parts_gives_the_same(finished, street_dir, tmp_path):
    run(recipe(street_dir, total_steps=2), tmp_path)
    (tmp_path / "train_video" / "report.json").unlink()
    report = run(recipe(street_dir), tmp_path)
    assert report["history"] == finished[1]["history"]
    ours, theirs = (load_for_inference(folder)[1] for folder in (tmp_path, finished[0]))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_goes_on_with_the_statistics_it_began_with(finished):
    """Also where the frames are others now, or what it was fine-tuned from is gone."""
    workdir, report = finished
    dataset = read_dataset({"name": "synthetic_street"}, "dataset")
    context = Context("train_video", workdir, workdir / "train_video", 0, dataset)
    flow = read_flow({"name": "dis", "measure": 3}, "train_video.flow")
    found = flow_statistics(flow, None, None, context, find_init(Init(checkpoint="gone"), context))
    assert found == {name: report["flow"][name] for name in ("mean", "std")}


def test_the_network_is_opened_for_propagation(finished):
    workdir, report = finished
    network = open_video_network("train_video", workdir=workdir)
    assert network.method == "reconstruction" and network.flow == report["flow"]
    assert network.description == "sdcnet2d_recon, step 4"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, 3, 30, 40, 3)).astype(np.float32)
    flows = rng.normal(0, 1, (1, 2, 30, 40, 2)).astype(np.float32)
    motion = jax.jit(network.predict)(network.variables, images, flows)
    assert motion.shape == (1, 30, 40, 2)
    # after 4 steps it still is near the last flow, with which it began
    assert np.abs(np.asarray(motion) - flows[:, -1]).mean() < 0.5 * np.abs(flows).mean()
    with pytest.raises(UserError, match="trained for reconstruction, not prediction"):
        open_video_network(str(workdir), "prediction")
    with pytest.raises(UserError, match="sdcnet2d_recon, which labels no image"):
        open_network(str(workdir))
    with pytest.raises(UserError, match="'train_vide' is neither a stage of"):
        open_video_network("train_vide", workdir=workdir)


@pytest.mark.slow
def test_fine_tuning_on_features_starts_from_the_first_stage(finished, street_dir, tmp_path):
    workdir, _ = finished
    features = dict(model=dict(name="fastscnn", options={}), layers=("ltd",))
    config = recipe(
        street_dir,
        init=dict(checkpoint=str(workdir / "train_video")),
        loss=dict(color=0.7, perceptual=0.1, style=0.1),
        features=features,
        total_steps=1,
        checkpoint_steps=1,
    )
    report = run(config, tmp_path)
    assert report["flow"]["mean"] == finished[1]["flow"]["mean"]
    lines = (tmp_path / "train_video" / "metrics.jsonl").read_text().splitlines()
    first = next(line for line in map(json.loads, lines) if "loss" in line)
    assert first["perceptual"] > 0 and first["style"] > 0
    config = recipe(street_dir, loss=dict(style=1.0), features={**features, "layers": ("ldt",)})
    with pytest.raises(UserError, match="Did you mean 'ltd'"):
        run(config, tmp_path / "wrong")


def test_prediction_from_a_folder_of_frames(street_dir, tmp_path):
    rng = np.random.default_rng(0)
    world = rng.integers(0, 256, (12, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    (tmp_path / "frames").mkdir()
    for t in range(5):
        (tmp_path / "frames" / f"drive_{t:03d}.png").write_bytes(encode_png(world[:64, 2 * t : 2 * t + 96]))
    config = recipe(
        street_dir,
        frames=str(tmp_path / "frames"),
        model=dict(name="sdcnet2d", options=dict(width=0.1, levels=3)),
        total_steps=2,
    )
    report = run(config, tmp_path / "run")
    assert report["triplets"] == 3 and "validation" not in report and report["history"] == []
    assert open_video_network(str(tmp_path / "run")).method == "prediction"


def test_what_is_refused(street_dir, tmp_path):
    wrong = {
        "Did you mean 'sdcnet2d_recon'": dict(model=dict(name="sdcnet2d_reco")),
        "needs its weights": dict(flow=dict(name="flownet2_s")),
        "Did you mean 'dis'": dict(flow=dict(name="diss")),
        "cannot be with the exact flow": dict(flow=dict(name="exact", on="crop")),
        "set space=1": dict(mesh=dict(data=1, space=2)),
        "loss.colour is not known": dict(loss=dict(colour=1.0)),
        "smaller than the crop": dict(crop=dict(size=(128, 128))),
        "must both hold 2 numbers": dict(flow=dict(name="dis", mean=(0.0,), std=(1.0, 1.0))),
    }
    for number, (message, changes) in enumerate(wrong.items()):
        with pytest.raises(UserError, match=message):
            run(recipe(street_dir, **changes), tmp_path / str(number))


def test_flow_network_behind_the_same_call(tmp_path, monkeypatch):
    """A small stand-in of FlowNet2-S: the real one has 150 MB."""
    from segjax import models
    from segjax.models import flownets
    from segjax.weights.names import to_state_dict

    monkeypatch.setattr(flownets, "_WIDTHS", (4, 4, 4, 4, 4, 4))
    module = models.create_flow("flownet2_s")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 70, 90, 3), np.uint8)
    variables = jax.jit(module.init)(jax.random.key(0), image, image)
    np.savez(tmp_path / "flow.npz", **to_state_dict(variables))
    flow = open_flow("flownet2_s", {"weights": str(tmp_path / "flow.npz"), "dtype": "float32"})
    other = rng.integers(0, 256, image.shape, np.uint8)
    ours = flow([Record(image[0], None, "a")], [Record(other[0], None, "b")])
    np.testing.assert_allclose(ours, jax.jit(module.apply)(variables, image, other), atol=1e-4)
    assert ours.shape == (1, 70, 90, 2)
    # pairs are looked at 4, 2 or 1 at once, whatever is asked for
    many = [[Record(rng.integers(0, 256, (64, 64, 3), np.uint8), None, str(i)) for i in range(7)] for _ in range(2)]
    alone = [flow([a], [b])[0] for a, b in zip(*many)]
    np.testing.assert_allclose(flow(*many), alone, atol=1e-4)


def test_a_longer_training_of_video_goes_on(finished, tmp_path, street_dir, caplog):
    shutil.copytree(finished[0], tmp_path / "run")
    with caplog.at_level("INFO", logger="segjax"):
        report = run(recipe(street_dir, total_steps=5), tmp_path / "run")
    assert "train_video.total_steps: 4 -> 5" in caplog.text and "from step 4 to 5: the learning rate" in caplog.text
    assert report["steps"] == 5 and [entry["step"] for entry in report["history"]] == [2, 4, 5]
    with pytest.raises(UserError, match=r"reverse: nothing -> 0.0.*only a longer duration lets a finished training"):
        run(recipe(street_dir, total_steps=6, reverse=0.0), tmp_path / "run")
